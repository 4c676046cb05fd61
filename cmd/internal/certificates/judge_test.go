package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"

	"github.com/damask-sdn/damask/internal/identity"
)

const agents = "system:serviceaccount:damask-system:damask-nodeagent"

// asks is what an agent on n1 asks for by itself, but for the names.
func asks(t testing.TB, key crypto.Signer, dns []string, names ...string) *certificatesv1.CertificateSigningRequestSpec {
	t.Helper()
	template := &x509.CertificateRequest{DNSNames: dns}
	for _, name := range names {
		uri, err := url.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequestSpec{
		SignerName: SignerName, Username: agents, Usages: usages, Extra: map[string]certificatesv1.ExtraValue{nodeNameExtra: {"n1"}},
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
	}
}

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestARequestIsForTheNodeOfWhoAsksOrRefused(t *testing.T) {
	key := ecdsaKey(t)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const own = "spiffe://damask/node/n1"
	s := &Signer{Requester: agents}
	id, public, err := s.judge(asks(t, key, nil, own))
	if err != nil || id != identity.Node("n1") || !public.Equal(key.Public()) {
		t.Errorf("its own: %v, %v", id, err)
	}
	with := func(change func(*certificatesv1.CertificateSigningRequestSpec)) *certificatesv1.CertificateSigningRequestSpec {
		spec := asks(t, key, nil, own)
		change(spec)
		return spec
	}
	for says, spec := range map[string]*certificatesv1.CertificateSigningRequestSpec{
		"it is for node/n2, and asked for on node n1":      asks(t, key, nil, "spiffe://damask/node/n2"),
		"it is for service/ipam, and asked for on node n1": asks(t, key, nil, "spiffe://damask/service/ipam"),
		"it is for operator/n1, and asked for on node n1":  asks(t, key, nil, "spiffe://damask/operator/n1"),
		`not of trust domain "damask"`:                     asks(t, key, nil, "spiffe://other/node/n1"),
		"it must have one URI name, and no other names":    asks(t, key, nil, own, "spiffe://damask/service/ipam"),
		"one URI name":                  asks(t, key, []string{"ipam.example"}, own),
		"URI name":                      asks(t, key, nil),
		"its key is Ed25519, not ECDSA": asks(t, other, nil, own),
		"system:admin may not ask":      with(func(s *certificatesv1.CertificateSigningRequestSpec) { s.Username = "system:admin" }),
		"does not say on which node":    with(func(s *certificatesv1.CertificateSigningRequestSpec) { s.Extra = nil }),
		"not say on which node": with(func(s *certificatesv1.CertificateSigningRequestSpec) {
			s.Extra[nodeNameExtra] = certificatesv1.ExtraValue{"n1", "n2"}
		}),
		"its usages are [client auth]": with(func(s *certificatesv1.CertificateSigningRequestSpec) {
			s.Usages = []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth}
		}),
		"it is no PKCS #10 request": with(func(s *certificatesv1.CertificateSigningRequestSpec) { s.Request = []byte("x") }),
	} {
		if id, _, err := s.judge(spec); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v, %v", says, id, err)
		}
	}
}

// FuzzRequests: whatever a request says, it is for the node that the API server named.
func FuzzRequests(f *testing.F) {
	key := ecdsaKey(f)
	f.Add(asks(f, key, nil, "spiffe://damask/node/n1").Request, "n1")
	f.Add(asks(f, key, []string{"n1"}, "spiffe://damask/service/ipam").Request, "ipam")
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"), "")
	f.Fuzz(func(t *testing.T, request []byte, node string) {
		id, public, err := (&Signer{Requester: agents}).judge(&certificatesv1.CertificateSigningRequestSpec{
			Username: agents, Usages: usages, Request: request, Extra: map[string]certificatesv1.ExtraValue{nodeNameExtra: {node}},
		})
		if err == nil && (id != identity.Node(node) || public == nil) {
			t.Errorf("on node %q it is for %s", node, id)
		}
	})
}
