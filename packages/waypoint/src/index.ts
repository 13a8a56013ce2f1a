export type { WaypointConfig } from './config.ts';
export { parseConfig } from './config.ts';
export type { Waypoint, WaypointDeps } from './app.ts';
export { startWaypoint } from './app.ts';
