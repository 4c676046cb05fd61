package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/damask-sdn/damask/internal/configfile"
)

// Files says where a process finds its identity; the "tls" block of every
// configuration file. The files may be replaced while the process runs.
type Files struct {
	// Certificate is a PEM file: the process's certificate, then intermediate
	// ones if any. Required.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file: the certificate's private key. Required.
	Key string `yaml:"key"`
	// CA is a PEM file: the certificates that all others are verified
	// against. Two while a CA is being replaced. Required.
	CA string `yaml:"ca"`
	// TrustDomain is the trust domain of the cluster. Default "damask".
	TrustDomain string `yaml:"trustDomain"`
}

// Check adds to a configuration's report what can be told without reading the
// files.
func (f Files) Check(r *configfile.Report) {
	r.Required("certificate", f.Certificate)
	r.Required("key", f.Key)
	r.Required("ca", f.CA)
	if _, err := spiffeid.TrustDomainFromString(f.trustDomain()); err != nil {
		r.Addf("trustDomain", "%q: %v", f.TrustDomain, err)
	}
}

func (f Files) trustDomain() string {
	if f.TrustDomain == "" {
		return DefaultTrustDomain
	}
	return f.TrustDomain
}

// material is what the files held at one moment.
type material struct {
	id          ID
	certificate *tls.Certificate
	roots       *x509.CertPool
	stamps      [3]stamp // of certificate, key, CA
}

// stamp tells whether a file was replaced. Time alone is too coarse, and a
// rename keeps the time.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// stamps are taken before the files are read, so that a replacement in
// between is seen the next time.
func (f Files) stamps() ([3]stamp, error) {
	var list [3]stamp
	for i, name := range []string{f.Certificate, f.Key, f.CA} {
		info, err := os.Stat(name)
		if err != nil {
			return list, err
		}
		list[i] = stamp{modified: info.ModTime(), size: info.Size(), inode: inode(info)}
	}
	return list, nil
}

// load reads all three files and verifies that they fit one another.
func (f Files) load() (*material, error) {
	stamps, err := f.stamps()
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Certificate, f.Key, err)
	}
	bundle, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("CA %s: no certificate in PEM form", f.CA)
	}
	m := &material{certificate: &certificate, roots: roots, stamps: stamps}
	leaf := certificate.Leaf
	if m.id, err = FromCertificate(f.trustDomain(), leaf); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", f.Certificate, err)
	}
	if err := verify(roots, append([]*x509.Certificate{leaf}, chain(&certificate)...), x509.ExtKeyUsageAny); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", f.Certificate, err)
	}
	return m, nil
}

// chain answers a certificate's intermediates that can be read.
func chain(certificate *tls.Certificate) []*x509.Certificate {
	var list []*x509.Certificate
	for _, der := range certificate.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			list = append(list, cert)
		}
	}
	return list
}

// verify checks a chain, the process's own certificate first.
func verify(roots *x509.CertPool, certs []*x509.Certificate, usage x509.ExtKeyUsage) error {
	if len(certs) == 0 {
		return errors.New("no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range certs[1:] {
		intermediates.AddCert(cert)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}
