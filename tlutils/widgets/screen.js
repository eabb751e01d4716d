// A picture and, under it, the same in words: a live region, which a screen reader says when it changes.
function render({ model, el }) {
  const image = document.createElement("img");
  const message = document.createElement("p");
  message.id = `message-${Math.random().toString(36).slice(2)}`;
  message.setAttribute("role", "status");
  image.alt = model.get("title");
  image.setAttribute("aria-describedby", message.id);
  el.classList.add("tlutils-screen");
  el.append(image, message);

  const draw = () => {
    const old = image.src;
    image.src = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/jpeg" }));
    if (old) URL.revokeObjectURL(old);
  };
  const say = () => {
    message.textContent = model.get("message");
  };
  model.on("change:picture", draw);
  model.on("change:message", say);
  draw();
  say();

  if (model.get("pointed")) {
    const point = (event) => {
      const box = image.getBoundingClientRect();
      const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      model.set("place", share);
      model.save_changes();
    };
    image.classList.add("pointed");
    image.draggable = false;
    image.addEventListener("pointerdown", (event) => {
      image.setPointerCapture(event.pointerId);
      point(event);
    });
    image.addEventListener("pointermove", (event) => {
      if (image.hasPointerCapture(event.pointerId)) point(event);
    });
  }

  // What the controls beside need for a keyboard and a screen reader, once all of them are laid out.
  const laidOut = new ResizeObserver(() => {
    const panel = el.closest(".tlutils-panel");
    if (!panel) return;
    // JupyterLab would take arrow keys and letters for itself: no list could be moved by them.
    for (const control of panel.querySelectorAll("select, button, [role=slider]")) {
      control.dataset.lmSuppressShortcuts = "true";
    }
    // ipywidgets gives its sliders, and the number to type beside them, no name to say.
    for (const slider of panel.querySelectorAll(".widget-slider")) {
      const label = slider.querySelector(".widget-label").textContent;
      slider.querySelector("[role=slider]").ariaLabel = label;
      slider.querySelector(".widget-readout").role = "textbox";
      slider.querySelector(".widget-readout").ariaLabel = `${label}, typed`;
    }
  });
  laidOut.observe(el);

  return () => {
    laidOut.disconnect();
    model.off("change:picture", draw);
    model.off("change:message", say);
    URL.revokeObjectURL(image.src);
  };
}
export default { render };
