// What keys do, as calls of an object with one function per action.
const keys = (() => {
  const LAYER = /^Digit([1-9])$/;

  const anywhere = (calls) => ({
    ArrowRight: () => calls.move(1),
    j: () => calls.move(1),
    ArrowLeft: () => calls.move(-1),
    k: () => calls.move(-1),
    a: () => calls.decide("accept"),
    r: () => calls.decide("reject"),
    n: calls.note,
    "[": () => calls.strengthen(-10),
    "]": () => calls.strengthen(10),
    c: () => calls.hold("none"),
    b: () => calls.hold("pseudo_label"),
    "/": calls.find,
    "?": calls.help,
  });

  const onCard = (calls) => ({
    ArrowDown: () => calls.moveRow(1),
    ArrowUp: () => calls.moveRow(-1),
  });

  // Keys that mean something else to what has the focus, or to the browser
  function isTaken(event) {
    const field = event.target.closest?.("input, select");
    const isTyping = field && !["radio", "range"].includes(field.type);
    if (isTyping && event.key === "Enter" && field.id === "note") field.blur();
    // Arrows move the slider and the radio buttons
    const isSliding = field && event.key.startsWith("Arrow") && !event.shiftKey;
    return event.ctrlKey || event.metaKey || event.altKey || isTyping || isSliding;
  }

  // The action of an event, undefined if there is none
  function actionOf(event, calls, tables) {
    // The digit on the key: with Shift, its character depends on the keyboard
    const digit = LAYER.exec(event.code)?.[1] ?? (/^[1-9]$/.test(event.key) ? event.key : null);
    if (digit) return () => calls.layer(Number(digit) - 1, event.shiftKey);
    const card = document.activeElement?.closest?.("article");
    if (card && event.key === "Enter" && document.activeElement === card) return calls.open;
    return (card && tables.onCard[event.key]) || tables.anywhere[event.key];
  }

  // `isBusy` says whether a dialog waits; `first` handles a key and says whether it was its own
  function listen(calls, isBusy, first) {
    const tables = { anywhere: anywhere(calls), onCard: onCard(calls) };
    document.addEventListener("keydown", (event) => {
      if (isTaken(event) || isBusy()) return;
      const act = first(event) ? () => {} : actionOf(event, calls, tables);
      if (!act) return;
      event.preventDefault();
      act();
    });
    document.addEventListener("keyup", (event) => {
      if (event.key === "c" || event.key === "b") calls.hold(null);
    });
    addEventListener("blur", () => calls.hold(null));
  }

  return { listen };
})();
