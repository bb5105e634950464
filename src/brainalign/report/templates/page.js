"use strict";
// What is folded away on the screen is printed too.
(() => {
  const folded = [];
  addEventListener("beforeprint", () => {
    const closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((one) => { one.open = true; });
    folded.push(...closed); // some browsers ask twice
  });
  addEventListener("afterprint", () => folded.splice(0).forEach((one) => { one.open = false; }));
})();
