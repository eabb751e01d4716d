// A picture and, under it, the same in words: a live region, which a screen reader says when it changes.
function render({ model, el }) {
  const image = document.createElement("img");
  const words = document.createElement("p");
  words.id = `words-${Math.random().toString(36).slice(2)}`;
  words.setAttribute("role", "status");
  image.alt = model.get("title");
  image.setAttribute("aria-describedby", words.id);
  el.classList.add("tlutils-screen");
  el.append(image, words);

  const draw = () => {
    const old = image.src;
    image.src = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/jpeg" }));
    if (old) URL.revokeObjectURL(old);
  };
  const say = () => {
    words.textContent = model.get("words");
  };
  model.on("change:picture", draw);
  model.on("change:words", say);
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

  return () => {
    model.off("change:picture", draw);
    model.off("change:words", say);
    URL.revokeObjectURL(image.src);
  };
}
export default { render };
