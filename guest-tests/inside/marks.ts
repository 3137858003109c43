/** What guests print for the programs that watch their console. */

/** Around the part that must cause no exit. */
export const TRAFFIC_BEGINS = 'TRAFFIC-BEGINS';
export const TRAFFIC_ENDS = 'TRAFFIC-ENDS';

/** The guest has its lease and has pinged. */
export const GUEST_READY = 'GUEST-READY';

/** A card was plugged in and does its work, or has left again; a number follows. */
export const CARD_WORKS = 'CARD-WORKS';
export const CARD_GONE = 'CARD-GONE';
