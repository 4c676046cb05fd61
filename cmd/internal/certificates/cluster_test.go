package certificates_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/damask-sdn/damask/cmd/internal/certificates"
	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/kubetest"
)

const (
	manifests = "../../../deploy/kustomize/"
	namespace = "damask-system"
	lifetime  = 90 * 24 * time.Hour
	day       = 24 * time.Hour
)

var names = []string{"nats", "ipam", "tenancy", "servicelb", "egress"}

// clock is the real one, or later.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(by time.Duration) { c.ahead.Add(int64(by)) }

// world is an API server with the rights that are shipped.
type world struct {
	*testing.T
	cluster *kubetest.Cluster
	admin   kubernetes.Interface
	keeper  *certificates.Keeper
	clock   clock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, cluster: kubetest.Start(t)}
	user := w.cluster.AsServiceAccount(t, manifests+"certificates/rbac.yaml")
	w.cluster.AsServiceAccount(t, manifests+"base/rbac/nodeagent.yaml")
	w.cluster.ApplyFiles(t, manifests+"certificates/rbac-nodes.yaml")
	w.admin = w.client(w.cluster.User)
	w.keeper = &certificates.Keeper{
		Client: w.client(user), Namespace: namespace, Lifetime: lifetime, CALifetime: 3650 * day, Spread: day,
		Now: w.clock.now, Log: hclog.New(&hclog.LoggerOptions{Name: "keeper", Output: t.Output()}),
	}
	for _, name := range names {
		w.keeper.Services = append(w.keeper.Services, identitytest.Service(t, name))
	}
	return w
}

func (w *world) client(user *kubetest.User) kubernetes.Interface {
	w.Helper()
	client, err := kubernetes.NewForConfig(user.Config())
	if err != nil {
		w.Fatal(err)
	}
	return client
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), 3*time.Minute)
	w.Cleanup(cancel)
	return ctx
}

// ensure ensures until it succeeds: rights are in force a moment after they were applied.
func (w *world) ensure() {
	w.Helper()
	for ctx := w.ctx(); ; {
		err := w.keeper.Ensure(ctx)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "forbidden") || ctx.Err() != nil {
			w.Fatal(err)
		}
	}
}

// versions are the resource versions of all that is kept.
func (w *world) versions() string {
	w.Helper()
	return w.cluster.Kubectl(w.T, "get", "secrets,configmaps", "-n", namespace, "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}")
}

func (w *world) secret(name string) *corev1.Secret {
	w.Helper()
	s, err := w.admin.CoreV1().Secrets(namespace).Get(w.ctx(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// certificate is the first one of a PEM text.
func certificate(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loads has the program's own reader of identities judge files.
func loads(t *testing.T, dir string, want identity.ID) {
	t.Helper()
	source, err := identity.NewSource(identity.Files{
		Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt"),
	}, hclog.NewNullLogger())
	if err != nil {
		t.Errorf("%s: %v", want, err)
	} else if source.ID() != want {
		t.Errorf("it is %s, want %s", source.ID(), want)
	}
}

func TestServicesHaveCertificatesAndASecondLookChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.ensure()
	for i, name := range names {
		dir := t.TempDir()
		for file, content := range w.secret("damask-" + name + "-tls").Data {
			if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		loads(t, dir, w.keeper.Services[i])
	}
	before := w.versions()
	if n := strings.Count(before, "="); n != len(names)+2 {
		t.Fatalf("there are %d objects: %s", n, before)
	}
	w.ensure()
	if after := w.versions(); after != before {
		t.Errorf("a second look changed\n%s to\n%s", before, after)
	}

	// What is lost or spoilt is made again, and nothing else.
	w.cluster.Kubectl(t, "delete", "secret", "damask-ipam-tls", "-n", namespace)
	w.cluster.Kubectl(t, "patch", "secret", "damask-nats-tls", "-n", namespace, "--type=merge", "-p", `{"data": {"tls.key": "eA=="}}`)
	tenancy := w.secret("damask-tenancy-tls").ResourceVersion
	w.ensure()
	if len(w.secret("damask-ipam-tls").Data["tls.crt"]) == 0 || string(w.secret("damask-nats-tls").Data["tls.key"]) == "x" || w.secret("damask-tenancy-tls").ResourceVersion != tenancy {
		t.Errorf("now there is %s", w.versions())
	}

	// What a person made is his.
	w.cluster.Kubectl(t, "label", "secret", "damask-egress-tls", "-n", namespace, "app.kubernetes.io/managed-by-")
	w.cluster.Kubectl(t, "patch", "secret", "damask-egress-tls", "-n", namespace, "--type=merge", "-p", `{"data": {"tls.key": "eA=="}}`)
	if err := w.keeper.Ensure(w.ctx()); err == nil || !strings.Contains(err.Error(), "secret damask-egress-tls was made by somebody else") {
		t.Errorf("got %v", err)
	}
	if string(w.secret("damask-egress-tls").Data["tls.key"]) != "x" {
		t.Error("somebody else's Secret was written")
	}
}

func TestCertificatesAreRenewedAndANewCAIsTrustedBeforeItIssues(t *testing.T) {
	w := newWorld(t)
	w.ensure()
	first := w.secret("damask-ipam-tls").Data
	w.clock.advance(lifetime*2/3 - time.Hour)
	before := w.versions()
	w.ensure()
	if after := w.versions(); after != before {
		t.Errorf("renewed too early: %s, before %s", after, before)
	}
	w.clock.advance(2 * time.Hour)
	w.ensure()
	second := w.secret("damask-ipam-tls").Data
	if c := certificate(t, second["tls.crt"]); string(second["tls.crt"]) == string(first["tls.crt"]) || c.NotAfter.Before(w.clock.now().Add(lifetime-time.Hour)) {
		t.Errorf("a third before its end the certificate is one until %s", c.NotAfter)
	}

	// A third of the CA's life is left: the next one is introduced.
	w.clock.advance(3650 * day * 2 / 3)
	w.ensure()
	third := w.secret("damask-ipam-tls").Data
	old := certificate(t, w.secret("damask-ca").Data["tls.crt"])
	if n := strings.Count(string(third["ca.crt"]), "BEGIN CERTIFICATE"); n != 2 || certificate(t, third["tls.crt"]).CheckSignatureFrom(old) != nil {
		t.Errorf("%d CAs are trusted; issued by the old one: %v", n, certificate(t, third["tls.crt"]).CheckSignatureFrom(old))
	}
	w.clock.advance(day)
	w.ensure()
	fourth := w.secret("damask-ipam-tls").Data
	active := certificate(t, w.secret("damask-ca").Data["tls.crt"])
	if n := strings.Count(string(fourth["ca.crt"]), "BEGIN CERTIFICATE"); n != 2 || active.Equal(old) || certificate(t, fourth["tls.crt"]).CheckSignatureFrom(active) != nil {
		t.Errorf("%d CAs are trusted, and the new one does not issue", n)
	}
	// Whoever has the bundle of before verifies what the new CA has issued.
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(third["ca.crt"])
	if _, err := certificate(t, fourth["tls.crt"]).Verify(x509.VerifyOptions{Roots: roots, CurrentTime: w.clock.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	w.clock.advance(3650 * day / 3)
	w.ensure()
	if n := strings.Count(string(w.secret("damask-ipam-tls").Data["ca.crt"]), "BEGIN CERTIFICATE"); n != 1 {
		t.Errorf("%d CAs are trusted after the old one has ended", n)
	}
}

func TestTwoKeepersMakeOneCA(t *testing.T) {
	w := newWorld(t)
	w.ensure() // with rights in force
	w.cluster.Kubectl(t, "delete", "secrets,configmaps", "--all", "-n", namespace)
	ctx, cancel := context.WithCancel(w.ctx())
	done := make(chan error, 2)
	for range 2 {
		k := &certificates.Keeper{
			Client: w.keeper.Client, Namespace: namespace, Services: w.keeper.Services, Lifetime: lifetime, CALifetime: 3650 * day, Spread: day,
			Now: time.Now, Log: hclog.NewNullLogger(),
		}
		go func() { done <- k.Run(ctx) }()
	}
	for _, name := range names {
		w.cluster.Kubectl(t, "wait", "secret/damask-"+name+"-tls", "-n", namespace, "--for=create", "--timeout=100s")
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	ca := certificate(t, w.secret("damask-ca").Data["tls.crt"])
	for _, name := range names {
		if err := certificate(t, w.secret("damask-" + name + "-tls").Data["tls.crt"]).CheckSignatureFrom(ca); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestACAOfSomebodyElseIsUsedAndLeftAlone is what there is with cert-manager.
func TestACAOfSomebodyElseIsUsedAndLeftAlone(t *testing.T) {
	w := newWorld(t)
	services := w.keeper.Services
	w.ensure()
	for _, id := range services {
		w.cluster.Kubectl(t, "delete", "secret", certificates.SecretName(id), "-n", namespace)
	}
	w.cluster.Kubectl(t, "delete", "configmap", certificates.CAName, "-n", namespace)
	before := w.secret(certificates.CAName)
	w.keeper.Services = nil
	w.clock.advance(3650 * day * 2 / 3) // it would be time for another CA
	w.ensure()
	bundle := w.cluster.Kubectl(t, "get", "configmap", certificates.CAName, "-n", namespace, "-o", `jsonpath={.data.ca\.crt}`)
	if after := w.secret(certificates.CAName); after.ResourceVersion != before.ResourceVersion || strings.TrimSpace(bundle) != strings.TrimSpace(string(before.Data["tls.crt"])) {
		t.Errorf("the CA was written, or is not what is trusted: %s", bundle)
	}
	if versions := w.versions(); strings.Count(versions, "=") != 2 {
		t.Errorf("more is there than the CA and whom to trust: %s", versions)
	}
	w.cluster.Kubectl(t, "delete", "secret", certificates.CAName, "-n", namespace)
	if err := w.keeper.Ensure(w.ctx()); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("without a CA: got %v", err)
	}
}

// token makes what the API server takes for an agent's pod on a node.
func (w *world) token(node string) kubernetes.Interface {
	w.Helper()
	args := []string{"create", "token", "damask-nodeagent", "-n", namespace, "--duration=1h"}
	if node != "" {
		w.cluster.Apply(w.T, fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s}}", node))
		args = append(args, "--bound-object-kind=Node", "--bound-object-name="+node)
	}
	cfg := w.cluster.Config()
	cfg.CertData, cfg.KeyData, cfg.BearerToken = nil, nil, w.cluster.Kubectl(w.T, args...)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		w.Fatal(err)
	}
	return client
}
