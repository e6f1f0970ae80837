// boxes that scroll sideways are reached by the keyboard; the theme makes them when a page is shown
document$.subscribe(() => setTimeout(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
}));
