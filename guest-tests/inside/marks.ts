/** What programs inside the lab, their guests and whoever started them tell each other. */

/** The guest has its lease and has pinged. */
export const GUEST_READY = 'GUEST-READY';

/** A card was plugged in and does its work, or has left again; a number follows. */
export const CARD_WORKS = 'CARD-WORKS';
export const CARD_GONE = 'CARD-GONE';

/** Whoever runs the test is to have the device fail now, or to press the button of its slot; its address follows. */
export const ERROR_WANTED = 'ERROR-WANTED';
export const BUTTON_WANTED = 'BUTTON-WANTED';

/** Environment of a test: addresses of the cards that it may lose, with spaces between. */
export const CARDS_VARIABLE = 'CAUSEWAY_CARDS';

/** Environment of a test: the folder with `card.rom`, which the network card has, and `display.rom`. */
export const ROMS_VARIABLE = 'CAUSEWAY_ROMS';
