import { readFileSync } from 'node:fs';

/** Where distributions keep the certificates of the authorities that the host trusts, as Go's crypto/x509 looks for them. */
const PLACES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Alpine
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
  '/etc/ssl/ca-bundle.pem', // openSUSE
  '/etc/ssl/cert.pem',
];

/**
 * The certificate authorities that this host trusts, in PEM form: from `SSL_CERT_FILE`, else from the distribution's
 * file, as flanneld has them. Null where there is no such file; Node brings a list of its own then.
 */
export function systemAuthorities(named = process.env.SSL_CERT_FILE): Buffer | null {
  for (const file of named ? [named] : PLACES) {
    try {
      return readFileSync(file);
    } catch {
      // the next one
    }
  }
  return null;
}
