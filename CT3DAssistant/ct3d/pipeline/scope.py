"""Scope: the part of a case that a question limited to a region, some slices or a box may lean on."""

from dataclasses import replace

from ct3d.case import Case, Finding, Region, Scope
from ct3d.errors import InvalidRequest
from ct3d.pipeline.facts import LESION_PREFIX, lesions


def scoped(case: Case, scope: Scope) -> Case:
    """The case with only what lies in the scope. A measurement counts only if its whole mask lies there.

    Raises:
        InvalidRequest: no such region, or a range of the wrong length.
    """
    if scope.kind == "scan":
        return case
    if scope.kind == "region":
        if case.entry(f"region/{scope.region}") is None:
            raise InvalidRequest(
                f"There is no region {scope.region!r} in this case. Choose one of its regions."
            )
        regions = [region for region in case.regions if _is_of(case, region, scope.region)]
    else:
        bounds = bounds_of(scope)
        regions = [region for region in case.regions if _lies_in(case, region, bounds)]
    ids = {region.id for region in regions}
    landmarks = [mark for mark in case.landmarks if _has(mark, scope, ids)]
    attributes = tuple(each for each in case.attributes if each.region in ids)
    part = replace(case, regions=tuple(regions), attributes=attributes, landmarks=tuple(landmarks))
    findings = [each for each in case.findings if _local(each, ids) and _has_places(case, each, scope)]
    return replace(part, findings=tuple(_within(part, finding) for finding in findings))


def _is_of(case: Case, region: Region, scope_id: str) -> bool:
    whole = next(each for each in case.regions if each.id == scope_id)
    if region.id == scope_id:
        return True
    if whole.kind == "report_region":
        return region.report_region == scope_id
    in_lung = scope_id in ("right_lung", "left_lung") and region.kind == "lesion"
    return in_lung and region.side == whole.side


def bounds_of(scope: Scope) -> list[tuple[float, float]]:
    """(low, high) along R, A, S of slices or a box; unlimited where the scope doesn't say.

    Raises:
        InvalidRequest: a range of the wrong length.
    """
    numbers = scope.range_ras_mm
    if len(numbers) != {"slices": 2, "box": 6}[scope.kind]:
        raise InvalidRequest(
            f"A scope of {scope.kind} needs 2 numbers for slices or 6 for a box, in RAS mm. Draw it again."
        )
    pairs = [tuple(sorted(numbers[n : n + 2])) for n in range(0, len(numbers), 2)]
    endless = (float("-inf"), float("inf"))
    return [endless, endless, *pairs] if scope.kind == "slices" else pairs


def _lies_in(case: Case, region: Region, bounds) -> bool:
    """A lesion by its centre, anything else by its measured extent."""
    center = next((mark for mark in case.landmarks if mark.id == f"{region.id}_center"), None)
    if region.kind == "lesion" and center is not None and center.position_ras is not None:
        return _inside(center.position_ras, bounds)
    own = case.attributes_of(region.id)
    ends = [own[name].value for name in ("z_low", "z_high") if name in own and own[name].value is not None]
    only_slices = bounds[0][0] == float("-inf")
    return only_slices and len(ends) == 2 and all(bounds[2][0] <= end <= bounds[2][1] for end in ends)


def _inside(point, bounds) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(point, bounds, strict=True))


def _has(mark, scope, ids) -> bool:
    if scope.kind == "region":
        return mark.region in ids or mark.id.removesuffix("_center") in ids
    return mark.position_ras is not None and _inside(mark.position_ras, bounds_of(scope))


def _local(finding: Finding, ids: set[str]) -> bool:
    """Findings that a part can speak of: those with masks of their own, or of the report region chosen."""
    return finding.id in LESION_PREFIX or finding.report_region in ids


def _has_places(case: Case, finding: Finding, scope: Scope) -> bool:
    """Whether it is known of every candidate of a finding if it lies in the scope."""
    prefix = LESION_PREFIX.get(finding.id)
    if prefix is None or scope.kind == "region":
        return True
    marks = {mark.id for mark in case.landmarks if mark.position_ras is not None}
    unplaced = [region for region in lesions(case, prefix) if f"{region.id}_center" not in marks]
    extents = [{"z_low", "z_high"} <= set(case.attributes_of(region.id)) for region in unplaced]
    return all(extents) if scope.kind == "slices" else not unplaced


def _within(part: Case, finding: Finding) -> Finding:
    """A finding of candidates, seen from a part of the scan where none of them lies."""
    prefix = LESION_PREFIX.get(finding.id)
    if prefix is None or finding.state not in ("present", "possible") or lesions(part, prefix):
        return finding
    return replace(finding, state="not_assessed")
