/** What guests print for the programs that watch their console. */

/** Around the part that must cause no exit. */
export const TRAFFIC_BEGINS = 'TRAFFIC-BEGINS';
export const TRAFFIC_ENDS = 'TRAFFIC-ENDS';

/** The guest has its lease and has pinged. */
export const GUEST_READY = 'GUEST-READY';
