(() => {
  const links = [...document.querySelectorAll("a[data-figure]")];
  let current = null;
  const mark = (link) => {
    if (current) current.removeAttribute("aria-current");
    current = link;
    if (current) current.setAttribute("aria-current", "true");
  };
  const open = (link, focus) => {
    mark(link);
    const x = scrollX, y = scrollY;
    location.hash = link.hash;
    scrollTo(x, y);
    if (focus) { link.focus({ preventScroll: true }); link.scrollIntoView({ block: "nearest" }); }
  };
  for (const link of links) link.addEventListener("click", (event) => { event.preventDefault(); open(link, false); });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Escape") {
      const back = current;
      mark(null);
      history.replaceState(null, "", "#");
      location.hash = "none";
      if (back) back.focus({ preventScroll: true });
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !links.length) return;
    event.preventDefault();
    const next = (links.indexOf(current) + step + links.length) % links.length;
    open(links[current ? next : 0], true);
  });
})();
