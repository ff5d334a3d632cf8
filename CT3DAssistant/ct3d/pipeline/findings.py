"""Task "findings": what follows by rule from the measurements of a case; the rest is "not assessed"."""

from pathlib import Path

from ct3d.cards import ModelCard
from ct3d.case import Case, Finding, Region
from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import FindingsParams, FindingsResult

LABELS = {  # id → title and report region: the 18 labels of CT-RATE (Hamamci et al., arXiv 2403.17834)
    "medical_material": ("Medical material", "mediastinum"),
    "arterial_wall_calcification": ("Arterial wall calcification", "heart_great_vessels"),
    "cardiomegaly": ("Cardiomegaly", "heart_great_vessels"),
    "pericardial_effusion": ("Pericardial effusion", "heart_great_vessels"),
    "coronary_artery_wall_calcification": ("Coronary artery wall calcification", "heart_great_vessels"),
    "hiatal_hernia": ("Hiatal hernia", "mediastinum"),
    "lymphadenopathy": ("Lymphadenopathy", "mediastinum"),
    "emphysema": ("Emphysema", "lungs"),
    "atelectasis": ("Atelectasis", "lungs"),
    "lung_nodule": ("Lung nodule", "lungs"),
    "lung_opacity": ("Lung opacity", "lungs"),
    "pulmonary_fibrotic_sequela": ("Pulmonary fibrotic sequela", "lungs"),
    "pleural_effusion": ("Pleural effusion", "lungs"),
    "mosaic_attenuation_pattern": ("Mosaic attenuation pattern", "lungs"),
    "peribronchial_thickening": ("Peribronchial thickening", "large_airways"),
    "consolidation": ("Consolidation", "lungs"),
    "bronchiectasis": ("Bronchiectasis", "large_airways"),
    "interlobular_septal_thickening": ("Interlobular septal thickening", "lungs"),
}
LUNGS = ("right_lung", "left_lung")


class FindingsRules:
    """The card's rules; their thresholds are the card's config."""

    def __init__(self, card: ModelCard, weights: Path | None = None):
        self.card = card
        self.weights = weights

    def find(self, case: Case) -> tuple[Finding, ...]:
        """All labels, in their fixed order."""
        rules = {
            "emphysema": self._emphysema,
            "lung_nodule": self._lung_nodule,
            "pleural_effusion": self._pleural_effusion,
        }
        return tuple(
            rules[label](case) if label in rules else self._finding(label, "not_assessed", (), NO_RULE)
            for label in LABELS
        )

    def _emphysema(self, case: Case) -> Finding:
        config = self.card.config
        whole = [region for region in _lungs(case) if region.presence == "whole"]
        measured = [case.attributes_of(region.id) for region in whole]
        shares = [own["emphysema_index"] for own in measured if "emphysema_index" in own]
        volumes = [own["volume"] for own in measured if "volume" in own]
        if len(shares) < 2 or len(volumes) < 2:
            return self._finding(
                "emphysema", "not_assessed", (), "It needs both lungs whole in the field of view."
            )
        thickness = max(case.input.geometry.spacing_kji_mm)
        evidence = tuple(f"attribute/{share.id}" for share in shares)
        if thickness > config["emphysema_thickest_mm"]:
            why = (
                f"Slices {thickness:g} mm apart average small low-density areas away; the rule wants at most "
                f"{config['emphysema_thickest_mm']:g} mm."
            )
            return self._finding("emphysema", "not_assessed", evidence, why)
        total = sum(volume.value for volume in volumes)
        index = sum(share.value * volume.value for share, volume in zip(shares, volumes)) / total
        state, meaning = self._emphysema_state(index)
        why = (
            f"{index:.1f} % of both lungs lie below -950 HU; {meaning} Noise, a sharp kernel and deep breath "
            "raise the share, contrast medium and expiration lower it."
        )
        return self._finding("emphysema", state, evidence, why)

    def _emphysema_state(self, index: float):
        config = self.card.config
        if index >= config["emphysema_present_percent"]:
            return "present", f"from {config['emphysema_present_percent']:g} % on it counts as present."
        if index >= config["emphysema_possible_percent"]:
            return "possible", f"from {config['emphysema_possible_percent']:g} % on emphysema is possible."
        if index < config["emphysema_absent_percent"]:
            return "absent", f"below {config['emphysema_absent_percent']:g} % there is no measurable extent."
        return "not_assessed", "healthy lungs, noise and mild emphysema all lie in this range."

    def _lung_nodule(self, case: Case) -> Finding:
        config = self.card.config
        found = _lesions(case, "nodule_", config["nodule_possible_confidence"])
        if found:
            best = max(region.confidence for region in found)
            state = "present" if best >= config["nodule_present_confidence"] else "possible"
            count = f"{len(found)} candidate{'s' * (len(found) > 1)}"
            why = (
                f"{count} by shape and surroundings, the best with a confidence of {best:.2f} (from "
                f"{config['nodule_present_confidence']:g} on: present). By rule, not calibrated."
            )
            return self._finding("lung_nodule", state, _evidence_of(case, found), why)
        why = (
            "No candidate was found by shape. That excludes none: nodules below 6 mm or two slices, "
            "ground-glass nodules and nodules on vessels or pleura escape these rules."
        )
        return self._finding("lung_nodule", "not_assessed", _shown(case), why if _lungs(case) else NO_LUNGS)

    def _pleural_effusion(self, case: Case) -> Finding:
        found = _lesions(case, "effusion_", self.card.config["effusion_possible_confidence"])
        if found:
            sides = " and ".join(each.side for each in found)
            why = (
                f"Fluid density fills the gap behind the lung on the {sides}. "
                "Pleural thickening and old blood can look alike."
            )
            return self._finding("pleural_effusion", "possible", _evidence_of(case, found), why)
        why = (
            "No layer of fluid density was found behind the lungs. That excludes none: effusions below about "
            "100 mL, loculated ones and those of a scan not taken supine escape the rule."
        )
        return self._finding(
            "pleural_effusion", "not_assessed", _shown(case), why if _lungs(case) else NO_LUNGS
        )

    def _finding(self, label, state, evidence, why) -> Finding:
        title, report_region = LABELS[label]
        return Finding(label, title, state, None, evidence, report_region, why, self.card.id)


NO_RULE = "No rule or model of this installation assesses it."
NO_LUNGS = "No lung was found in the field of view."


def run(params: FindingsParams, job: Job) -> FindingsResult:
    """Derive the card's findings from a measured case."""
    job.stage("findings", 0.0)
    card = job.card(params.card)
    return FindingsResult(job.model(card).find(params.case), job.step("findings", card))


def _lungs(case: Case) -> list[Region]:
    return [region for region in case.regions if region.id in LUNGS and region.presence != "absent"]


def _shown(case: Case) -> tuple[str, ...]:
    return tuple(f"region/{region.id}" for region in _lungs(case))


def _lesions(case: Case, prefix: str, least: float) -> list[Region]:
    return [
        region
        for region in case.regions
        if region.kind == "lesion" and region.id.startswith(prefix) and region.confidence >= least
    ]


def _evidence_of(case: Case, regions: list[Region]) -> tuple[str, ...]:
    """The regions and the measurements that speak of their size and place."""
    names = ("volume", "mean_hu", "long_diameter", "short_diameter", "side", "zone")
    evidence = []
    for region in regions:
        own = case.attributes_of(region.id)
        evidence += [f"region/{region.id}", *(f"attribute/{own[name].id}" for name in names if name in own)]
    return tuple(evidence)
