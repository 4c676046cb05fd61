package certificates

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/keyutil"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/authority"
)

// patience is how long a request for a certificate is waited for before another is made.
const patience = 5 * time.Minute

// Node keeps the certificate of a node's agent in a directory of the node.
type Node struct {
	// Client makes a connection to the API server, as the agent's pod. It is asked for only
	// when a certificate is needed. Required.
	Client func() (kubernetes.Interface, error)
	// Name of the node. Required.
	Name string
	// TrustDomain of the cluster. Empty: the default one.
	TrustDomain string
	// Dir is where tls.crt, tls.key and ca.crt are. Required.
	Dir string
	// Bundle is the file with whom to trust: the ConfigMap, mounted. Required.
	Bundle string
	// Lifetime that is asked for. Required.
	Lifetime time.Duration
	// Now is the clock. Required.
	Now func() time.Time
	// Log. Required.
	Log hclog.Logger
}

// Run keeps the certificate until ctx ends. The kubelet takes a minute to show a changed
// ConfigMap, so it is looked at as often.
func (n *Node) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		if err := n.Ensure(ctx); err != nil && ctx.Err() == nil {
			n.Log.Warn("keeping the certificate, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Await returns when the node has a certificate that is good now: at once if there is one,
// whether or not it is to be replaced soon.
func (n *Node) Await(ctx context.Context) error {
	for {
		if bundle, err := os.ReadFile(n.Bundle); err == nil && n.usable(bundle) == nil {
			return nil
		}
		err := n.Ensure(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.Log.Warn("getting a certificate, trying again", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// Ensure makes the directory's files what they should be now, and changes none that is right.
func (n *Node) Ensure(ctx context.Context) error {
	bundle, err := os.ReadFile(n.Bundle)
	if err != nil {
		return fmt.Errorf("read whom to trust: %w", err)
	}
	why := n.usable(bundle)
	if why == nil {
		why = n.due()
	}
	if why != nil {
		return n.replace(ctx, bundle, why)
	}
	if has, err := os.ReadFile(n.file(authority.CACertificateFile)); err == nil && bytes.Equal(has, bundle) {
		return nil
	}
	n.Log.Info("others are to be trusted from now on")
	pair, key, err := n.files()
	if err != nil {
		return err
	}
	return authority.WriteIssued(n.Dir, pair, key, bundle)
}

func (n *Node) file(name string) string { return filepath.Join(n.Dir, name) }

func (n *Node) files() (certificate, key []byte, err error) {
	certificate, err = os.ReadFile(n.file(authority.CertificateFile))
	if err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(n.file(authority.KeyFile))
	return certificate, key, err
}

// usable says why the certificate cannot be used now; nil: it can.
func (n *Node) usable(bundle []byte) error {
	certificate, key, err := n.files()
	if err != nil {
		return err
	}
	return n.check(certificate, key, bundle)
}

// check says what keeps a certificate from being this node's.
func (n *Node) check(certificate, key, bundle []byte) error {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	switch id, err := identity.FromCertificate(n.trustDomain(), pair.Leaf); {
	case err != nil:
		return err
	case id != identity.Node(n.Name):
		return fmt.Errorf("it is the certificate of %s", id)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return errors.New("there is no certificate of whom to trust")
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: n.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// due says why a certificate that can be used is to be replaced; nil: it is not.
func (n *Node) due() error {
	text, err := os.ReadFile(n.file(authority.CertificateFile))
	if err != nil {
		return err
	}
	certificate, err := parseCertificate(text)
	if err == nil && !n.Now().Before(renewAt(certificate)) {
		return fmt.Errorf("it ends at %s", certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return err
}

func (n *Node) trustDomain() string {
	if n.TrustDomain == "" {
		return identity.DefaultTrustDomain
	}
	return n.TrustDomain
}

// replace gets another certificate, with a new key that nobody else ever has.
func (n *Node) replace(ctx context.Context, bundle []byte, why error) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	key, err := keyutil.MarshalPrivateKeyToPEM(private)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	request, err := n.request(private)
	if err != nil {
		return err
	}
	client, err := n.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, request, "", SignerName, &n.Lifetime, usages, private)
	if err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	certificate, err := csr.WaitForCertificate(ctx, client, name, uid)
	if err != nil {
		return fmt.Errorf("wait for the certificate: %w", err)
	}
	if err := n.check(certificate, key, bundle); err != nil {
		return fmt.Errorf("what was issued is of no use: %w", err)
	}
	if err := authority.WriteIssued(n.Dir, certificate, key, bundle); err != nil {
		return err
	}
	n.Log.Info("the node has a new certificate", "because", why)
	return nil
}

func (n *Node) request(key *ecdsa.PrivateKey) ([]byte, error) {
	uri, err := identity.Node(n.Name).URI(n.trustDomain())
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: n.Name[:min(len(n.Name), 64)]}, URIs: []*url.URL{uri},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
