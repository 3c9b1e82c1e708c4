/** The status socket's name in the run directory. */
export const SOCKET_NAME = 'tweed.sock';
