// Package authority is a small certificate authority for Damask identities.
//
// It owns a CA key and issues certificates for identities. It promises that
// private keys are only ever written to files that their owner alone can
// read. It is meant for the lab, for tests and for clusters without a PKI;
// it keeps no list of what it issued and cannot revoke: use short lifetimes.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
)

// Names of the files that the package writes into a directory.
const (
	CACertificateFile = "ca.crt"
	CAKeyFile         = "ca.key"
	CertificateFile   = "tls.crt"
	KeyFile           = "tls.key"
)

// backdate allows for clocks that differ between machines.
const backdate = 5 * time.Minute

// Authority is a CA. It is safe for concurrent use.
type Authority struct {
	trustDomain string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	now         func() time.Time
}

// New makes a CA with a fresh key. An empty trustDomain is the default one.
func New(trustDomain string, lifetime time.Duration) (*Authority, error) {
	return NewAt(trustDomain, lifetime, time.Now)
}

// NewAt is New by another clock than the system's, for this CA and all that it issues.
func NewAt(trustDomain string, lifetime time.Duration, now func() time.Time) (*Authority, error) {
	if trustDomain == "" {
		trustDomain = identity.DefaultTrustDomain
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create CA key: %w", err)
	}
	template, err := blank("Damask CA "+trustDomain, lifetime, now())
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.MaxPathLenZero = true // it issues no other CA
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create CA certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate back: %w", err)
	}
	return &Authority{trustDomain: trustDomain, certificate: certificate, key: key, now: now}, nil
}

// Open reads a CA that Write wrote into dir. An empty trustDomain is the
// default one.
func Open(dir, trustDomain string) (*Authority, error) {
	if trustDomain == "" {
		trustDomain = identity.DefaultTrustDomain
	}
	certificate, err := os.ReadFile(filepath.Join(dir, CACertificateFile)) //nolint:gosec // where the caller says
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, CAKeyFile)) //nolint:gosec // where the caller says
	if err != nil {
		return nil, fmt.Errorf("open CA: %w", err)
	}
	a, err := Parse(trustDomain, certificate, key, time.Now)
	if err != nil {
		return nil, fmt.Errorf("open CA in %s: %w", dir, err)
	}
	return a, nil
}

// Parse reads a CA from its certificate and its key, which is ECDSA, in PEM form. An empty
// trustDomain is the default one; now is the clock by which it issues.
func Parse(trustDomain string, certificate, key []byte, now func() time.Time) (*Authority, error) {
	if trustDomain == "" {
		trustDomain = identity.DefaultTrustDomain
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	private, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("read CA: the key is not ECDSA")
	}
	if !pair.Leaf.IsCA {
		return nil, fmt.Errorf("read CA: %q is no CA's certificate", pair.Leaf.Subject.CommonName)
	}
	return &Authority{trustDomain: trustDomain, certificate: pair.Leaf, key: private, now: now}, nil
}

// Write stores the CA in dir, which is made if need be: ca.crt, and ca.key
// that only the owner can read.
func (a *Authority) Write(dir string) error {
	key, err := a.KeyPEM()
	if err != nil {
		return err
	}
	return writeFiles(dir, map[string]file{
		CACertificateFile: {a.CertificatePEM(), 0o644},
		CAKeyFile:         {key, 0o600},
	})
}

// CertificatePEM is the CA's certificate, for others to verify against.
func (a *Authority) CertificatePEM() []byte { return encodeCertificate(a.certificate.Raw) }

// KeyPEM is the CA's key. Whoever has it can be anybody.
func (a *Authority) KeyPEM() ([]byte, error) { return encodeKey(a.key) }

// Certificate is the CA's certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.certificate }

// Issue makes a key and a certificate for an identity, good for both ends of
// a connection, both in PEM form.
func (a *Authority) Issue(id identity.ID, lifetime time.Duration) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("create key for %s: %w", id, err)
	}
	if certificate, err = a.Sign(id, private.Public(), lifetime); err != nil {
		return nil, nil, err
	}
	if key, err = encodeKey(private); err != nil {
		return nil, nil, err
	}
	return certificate, key, nil
}

// Sign makes a certificate for an identity whose key somebody else has, good for both ends
// of a connection, in PEM form. It does not outlive the CA.
func (a *Authority) Sign(id identity.ID, public crypto.PublicKey, lifetime time.Duration) ([]byte, error) {
	uri, err := id.URI(a.trustDomain)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	template, err := blank(id.String(), lifetime, a.now())
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(a.certificate.NotAfter) {
		template.NotAfter = a.certificate.NotAfter
	}
	template.URIs = append(template.URIs, uri)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate for %s: %w", id, err)
	}
	return encodeCertificate(der), nil
}

// IssueFiles issues a certificate for an identity into dir, which is made if
// need be: tls.crt, tls.key and ca.crt, each replaced whole. The key can be
// read by the owner only.
func (a *Authority) IssueFiles(dir string, id identity.ID, lifetime time.Duration) (identity.Files, error) {
	certificate, key, err := a.Issue(id, lifetime)
	if err != nil {
		return identity.Files{}, err
	}
	err = WriteIssued(dir, certificate, key, a.CertificatePEM())
	return identity.Files{
		Certificate: filepath.Join(dir, CertificateFile),
		Key:         filepath.Join(dir, KeyFile),
		CA:          filepath.Join(dir, CACertificateFile),
		TrustDomain: a.trustDomain,
	}, err
}

// WriteIssued stores what was issued, and whom its owner trusts, in dir, which is made if need
// be: tls.crt, tls.key and ca.crt, each replaced whole. Between two of them they may not fit;
// who reads them then keeps what was there before (see identity.Source).
func WriteIssued(dir string, certificate, key, ca []byte) error {
	return writeFiles(dir, map[string]file{
		CertificateFile: {certificate, 0o644}, KeyFile: {key, 0o600}, CACertificateFile: {ca, 0o644},
	})
}

func blank(commonName string, lifetime time.Duration, now time.Time) (*x509.Certificate, error) {
	if lifetime <= 0 {
		return nil, errors.New("a certificate's lifetime must be positive")
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	if len(commonName) > 64 { // X.520's bound; the identity is in the URI
		commonName = commonName[:64]
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

type file struct {
	content []byte
	mode    fs.FileMode
}

// writeFiles replaces each file whole, so that a reader never sees half.
func writeFiles(dir string, files map[string]file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	for name, f := range files {
		if err := replaceFile(filepath.Join(dir, name), f); err != nil {
			return fmt.Errorf("write certificates: %w", err)
		}
	}
	return nil
}

func replaceFile(path string, f file) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // created with mode 0600
	if err != nil {
		return err
	}
	_, writeErr := temp.Write(f.content)
	err = errors.Join(writeErr, temp.Chmod(f.mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
