"use strict";
(() => {
  const sections = [...document.querySelectorAll("section")];
  const chips = [...document.querySelectorAll(".chip")];
  const input = document.getElementById("filter");
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.verdict);
    let shown = 0;
    for (const section of sections) {
      const verdicts = section.dataset.verdicts.split(" ");
      const named = words.every((word) => section.dataset.name.toLowerCase().includes(word));
      // What the run did not ask about is shown on request.
      const asked = verdicts.some((verdict) => verdict !== "outside");
      const judged = wanted.length === 0 ? asked : wanted.some((verdict) => verdicts.includes(verdict));
      section.hidden = !(named && judged);
      shown += section.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = `${shown} of ${sections.length} benchmarks shown`;
    document.getElementById("none").hidden = shown > 0;
  };
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      apply();
    });
  }
  input.addEventListener("input", apply);
  apply();
})();
