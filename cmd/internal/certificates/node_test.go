package certificates_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/damask-sdn/damask/cmd/internal/certificates"
	"github.com/damask-sdn/damask/internal/identity"
)

// sign runs the signer until the test ends.
func (w *world) sign() {
	w.Helper()
	s := &certificates.Signer{
		Client: w.keeper.Client, Requester: "system:serviceaccount:" + namespace + ":damask-nodeagent", Lifetime: lifetime,
		CA: w.keeper.CA, Log: hclog.New(&hclog.LoggerOptions{Name: "signer", Output: w.Output()}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the signer ended with %v", err)
		}
	})
}

// node is an agent's pod on a node, which the API server takes for one on another.
func (w *world) node(name, tokenOf string) *certificates.Node {
	w.Helper()
	client := w.token(tokenOf)
	bundle := filepath.Join(w.TempDir(), "ca.crt")
	n := &certificates.Node{
		Client: func() (kubernetes.Interface, error) { return client, nil }, Name: name, Dir: filepath.Join(w.TempDir(), "tls"), Bundle: bundle,
		Lifetime: lifetime, Now: w.clock.now, Log: hclog.New(&hclog.LoggerOptions{Name: name, Output: w.Output()}),
	}
	w.mount(n)
	return n
}

// mount does what the kubelet does with the ConfigMap.
func (w *world) mount(n *certificates.Node) {
	w.Helper()
	m, err := w.admin.CoreV1().ConfigMaps(namespace).Get(w.ctx(), certificates.CAName, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(n.Bundle, []byte(m.Data[certificates.BundleKey]), 0o600); err != nil {
		w.Fatal(err)
	}
}

// denied says why the last request was denied.
func (w *world) denied() string {
	w.Helper()
	return w.cluster.Kubectl(w.T, "get", "csr", "-o", `jsonpath={range .items[*].status.conditions[?(@.type=="Denied")]}{.message}{"\n"}{end}`)
}

func TestANodeGetsItsOwnCertificateAndNoOther(t *testing.T) {
	w := newWorld(t)
	w.ensure()
	w.sign()
	n1 := w.node("n1", "n1")
	began := time.Now()
	if err := n1.Await(w.ctx()); err != nil {
		t.Fatal(err)
	}
	t.Logf("the node has a certificate after %v", time.Since(began).Round(time.Millisecond))
	loads(t, n1.Dir, identity.Node("n1"))
	if info, err := os.Stat(filepath.Join(n1.Dir, "tls.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", info, err)
	}
	if secret := w.cluster.Kubectl(t, "get", "csr,secrets", "-A", "-o", "yaml"); strings.Contains(secret, string(read(t, n1, "tls.key"))) {
		t.Error("the node's key is in the API server")
	}

	// The token of n2 does not get the certificate of n1, nor one without a node any.
	for _, c := range []struct{ name, token, says string }{
		{"n1", "n2", "it is for node/n1, and asked for on node n2"},
		{"n3", "", "the token of who asks does not say on which node he is"},
	} {
		other := w.node(c.name, c.token)
		if err := other.Ensure(w.ctx()); err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("%+v: got %v, want denied", c, err)
		}
		if why := w.denied(); !strings.Contains(why, c.says) {
			t.Errorf("%+v: denied since %q", c, why)
		}
		if _, err := os.Stat(filepath.Join(other.Dir, "tls.crt")); err == nil {
			t.Errorf("%+v: it has a certificate", c)
		}
	}
}

func read(t *testing.T, n *certificates.Node, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(n.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestANodesCertificateIsRenewedAndOutlivesTheAPIServer(t *testing.T) {
	w := newWorld(t)
	w.ensure()
	w.sign()
	n := w.node("n1", "n1")
	if err := n.Await(w.ctx()); err != nil {
		t.Fatal(err)
	}
	first := read(t, n, "tls.crt")
	w.clock.advance(lifetime*2/3 - time.Hour)
	if err := n.Ensure(w.ctx()); err != nil || string(read(t, n, "tls.crt")) != string(first) {
		t.Errorf("renewed too early: %v", err)
	}
	w.clock.advance(2 * time.Hour)
	w.ensure()
	if err := n.Ensure(w.ctx()); err != nil {
		t.Fatal(err)
	}
	second := read(t, n, "tls.crt")
	if c := certificate(t, second); string(second) == string(first) || c.NotAfter.Before(w.clock.now().Add(lifetime-time.Hour)) {
		t.Errorf("a third before its end it is one until %s", c.NotAfter)
	}

	// A new CA is trusted without another certificate.
	w.clock.advance(3650 * day * 2 / 3)
	w.ensure()
	w.mount(n)
	if err := n.Ensure(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(string(read(t, n, "ca.crt")), "BEGIN CERTIFICATE"); count != 2 {
		t.Errorf("it trusts %d CAs", count)
	}

	// A pod that starts while the API server is away has what the node has.
	w.clock.advance(lifetime * 2 / 3)
	w.cluster.StopServer()
	if err := n.Await(w.ctx()); err != nil {
		t.Error(err)
	}
	if err := n.Ensure(w.ctx()); err == nil {
		t.Error("renewed without an API server")
	}
}
