// FontAwesome's script swaps each icon element for an <svg>. Keeping the element and nesting the <svg> inside it spares
// every script that still holds the element.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };
