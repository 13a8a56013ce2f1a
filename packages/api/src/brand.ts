declare const brand: unique symbol;

/** A base type that only its parser can make: `Brand<string, 'Hostname'>`. */
export type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };
