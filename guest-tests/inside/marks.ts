/** What guests print for the programs that watch their console. */

/** The guest has its lease and has pinged. */
export const GUEST_READY = 'GUEST-READY';

/** A card was plugged in and does its work, or has left again; a number follows. */
export const CARD_WORKS = 'CARD-WORKS';
export const CARD_GONE = 'CARD-GONE';

/** Whoever runs the program is to have the device fail now. */
export const ERROR_WANTED = 'ERROR-WANTED';

/** Whoever runs the program is to press the button of the card's slot in the lab now. */
export const BUTTON_WANTED = 'BUTTON-WANTED';

/** KVM's pages are counted at each: before memory is touched, between that and a BAR, and after. */
export const PAGE_MARKS = ['NOTHING-TOUCHED', 'MEMORY-TOUCHED', 'BAR-TOUCHED'] as const;
