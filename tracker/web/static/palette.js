// Colours of objects: Okabe and Ito's, which colour-blind people can tell apart; beyond them, other dashes.

const COLOURS = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
const DASHES = [[], [8, 4], [2, 3]];

export const colourOf = (id) => COLOURS[id % COLOURS.length];
export const dashOf = (id) => DASHES[Math.floor(id / COLOURS.length) % DASHES.length];
