/** How GatewayClasses and the status of routes name this controller. */
export const controllerName = 'ambit.dev/mesh-controller';
