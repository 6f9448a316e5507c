// Draws the figures in the colours of light or dark, and lets the chips hide a model in all of them.
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const chips = [...document.querySelectorAll(".chip")];
  const hidden = new Set();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function trace(spec, ink) {
    const model = spec.meta.model;
    const chip = chips.find((item) => item.dataset.model === model);
    const swatch = chip && chip.querySelector(".swatch");
    const line = { ...spec.line, color: swatch ? getComputedStyle(swatch).backgroundColor : ink };
    return { ...spec, line, visible: !hidden.has(model), showlegend: false };
  }

  function layout(spec, height, width) {
    const ink = colour("--soft");
    const axes = {};
    for (const name of Object.keys(spec).filter((key) => /^[xy]axis/.test(key))) {
      axes[name] = { gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false, automargin: true, fixedrange: true, ...spec[name] };
    }
    return {
      ...spec,
      ...axes,
      width,
      height,
      font: { family: "system-ui, sans-serif", size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 56, r: 10, t: 10, b: 40, ...spec.margin },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      shapes: spec.shapes.map((shape) => ({ ...shape, fillcolor: colour("--band"), line: { width: 0 } })),
      annotations: (spec.annotations || [])
        .filter((note) => note.share * (width - 70) > 7 * note.text.length) // a stage too narrow for its name has none
        .map(({ share, ...note }) => ({ ...note, font: { size: 11, color: ink } })),
    };
  }

  function draw() {
    for (const figure of figures) {
      const width = document.getElementById(figure.id).clientWidth;
      const data = figure.data.map((spec) => trace(spec, colour("--ink")));
      Plotly.react(figure.id, data, layout(figure.layout, figure.height, width), { displayModeBar: false });
    }
  }

  for (const chip of chips) {
    chip.addEventListener("click", () => {
      const model = chip.dataset.model;
      hidden.delete(model) || hidden.add(model);
      for (const twin of chips.filter((item) => item.dataset.model === model)) {
        twin.setAttribute("aria-pressed", String(!hidden.has(model)));
      }
      draw();
    });
  }
  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
})();
