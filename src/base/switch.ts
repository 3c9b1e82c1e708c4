/** `auto` uses what the kernel offers, `on` insists (and warns when it cannot), `off` leaves it alone. */
export type Switch = 'auto' | 'on' | 'off';
