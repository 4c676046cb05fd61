package kubetest_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/damask-sdn/damask/internal/kubetest"
)

// start starts a cluster, says how long that took, and answers its administrator's
// client.
func start(t *testing.T) (*kubetest.Cluster, typedcorev1.CoreV1Interface) {
	t.Helper()
	began := time.Now()
	cluster := kubetest.Start(t)
	t.Logf("ready after %v", time.Since(began).Round(10*time.Millisecond))
	return cluster, client(t, cluster.User)
}

func client(t *testing.T, user *kubetest.User) typedcorev1.CoreV1Interface {
	t.Helper()
	client, err := typedcorev1.NewForConfig(user.Config())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestWhatKubectlCreatesClientsSee(t *testing.T) {
	t.Parallel()
	cluster, client := start(t)
	cluster.Kubectl(t, "create", "namespace", "red")
	namespace, err := client.Namespaces().Get(t.Context(), "red", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := cluster.Kubectl(t, "get", "namespace", "red", "-o", "jsonpath={.metadata.uid}"); got != string(namespace.UID) {
		t.Errorf("kubectl sees uid %s, client-go %s", got, namespace.UID)
	}
	// Nothing may ask for what only a controller manager makes.
	cluster.Apply(t, `{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: red}, spec: {containers: [{name: web, image: web}]}}`)
	if _, err := client.Pods("red").Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	cluster.DeleteNamespace(t, "red")
	if _, err := client.Namespaces().Get(t.Context(), "red", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a deleted namespace: got %v, want that it is not found", err)
	}
	finder, err := discovery.NewDiscoveryClientForConfig(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	version, err := finder.ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(version.GitVersion, "v1.") || version.Major != "1" {
		t.Errorf("the API server says that it is %q, and the major version is %q", version.GitVersion, version.Major)
	}
}

func TestNodesMayNotWriteWhatIsAnothers(t *testing.T) {
	t.Parallel()
	cluster, _ := start(t)
	user := cluster.AsNode(t, "node1")
	nodes := client(t, user).Nodes()
	if _, err := nodes.Create(t.Context(), node("node1"), metav1.CreateOptions{}); err != nil {
		t.Fatalf("its own Node: %v", err)
	}
	if _, err := nodes.Create(t.Context(), node("node2"), metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("create another Node: got %v, want forbidden", err)
	}
	cluster.Apply(t, `{apiVersion: v1, kind: Node, metadata: {name: node2}}`)
	ready := []byte(`{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}`)
	const merge = "application/strategic-merge-patch+json"
	if _, err := nodes.Patch(t.Context(), "node1", merge, ready, metav1.PatchOptions{}, "status"); err != nil {
		t.Errorf("its own Node's status: %v", err)
	}
	if _, err := nodes.Patch(t.Context(), "node2", merge, ready, metav1.PatchOptions{}, "status"); !apierrors.IsForbidden(err) {
		t.Errorf("another Node's status: got %v, want forbidden", err)
	}
	if out, err := user.TryKubectl("create", "namespace", "red"); err == nil || !strings.Contains(err.Error(), `"system:node:node1" cannot create resource "namespaces"`) {
		t.Errorf("kubectl with a node's credentials: got %q, %v, want forbidden", out, err)
	}
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func TestServerComesBackWithWhatItHad(t *testing.T) {
	t.Parallel()
	cluster, client := start(t)
	node1 := cluster.AsNode(t, "node1")
	cluster.Kubectl(t, "create", "namespace", "red")
	before, err := client.Namespaces().Get(t.Context(), "red", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := client.Namespaces().Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	for _, stop := range []func(){cluster.StopServer, cluster.KillServer} {
		began := time.Now()
		stop()
		t.Logf("gone after %v", time.Since(began).Round(10*time.Millisecond))
		for range watch.ResultChan() { //nolint:revive // it has to end
		}
		refused(t, cluster.URL())
		began = time.Now()
		cluster.StartServer(t)
		t.Logf("back after %v", time.Since(began).Round(10*time.Millisecond))
		after, err := client.Namespaces().Get(t.Context(), "red", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if after.UID != before.UID || after.ResourceVersion != before.ResourceVersion {
			t.Errorf("it came back as another: %v, before %v", after.ObjectMeta, before.ObjectMeta)
		}
		if watch, err = client.Namespaces().Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion}); err != nil {
			t.Fatal(err)
		}
	}
	watch.Stop()
	if out, err := node1.TryKubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); err != nil || out != "system:node:node1" {
		t.Errorf("a user of before is now %q, %v", out, err)
	}
}

func refused(t *testing.T, server string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", u.Host); err == nil {
		_ = conn.Close()
		t.Error("somebody answers while the API server is away")
	}
}

func TestStoreThatIsLostHasNothingAndKnowsTheUsers(t *testing.T) {
	t.Parallel()
	cluster, client := start(t)
	node1 := cluster.AsNode(t, "node1")
	cluster.Kubectl(t, "create", "namespace", "red")
	before, err := client.Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	where := cluster.URL()
	cluster.LoseStore(t)
	if cluster.URL() != where {
		t.Errorf("it was at %s, and is at %s", where, cluster.URL())
	}
	if _, err := client.Namespaces().Get(t.Context(), "red", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a namespace of before: got %v, want that it is not found", err)
	}
	node1.Apply(t, `{apiVersion: v1, kind: Node, metadata: {name: node1}}`)
	after, err := client.Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{})
	if err == nil && after.UID == before.UID {
		t.Error("kube-system is the one of before")
	}
}

func TestDefinitionsAreServedOnceTheyAreInstalled(t *testing.T) {
	t.Parallel()
	cluster, _ := start(t)
	cluster.InstallCRDs(t, "testdata/crds")
	cluster.Apply(t, `{apiVersion: kubetest.damask.dev/v1, kind: SubnetLease, metadata: {name: node1}, subnet: 10.128.0.0/23}`)
	if got := strings.Fields(cluster.Kubectl(t, "get", "sl", "--no-headers")); len(got) != 2 || got[1] != "10.128.0.0/23" {
		t.Errorf("kubectl shows %q", got)
	}
	if _, err := cluster.TryKubectl("patch", "subnetlease", "node1", "--type=merge", "-p", `{"subnet": "10.128.0.0"}`); err == nil || !strings.Contains(err.Error(), "must be a subnet in CIDR notation") {
		t.Errorf("a wrong subnet: %v", err)
	}
	// Once more changes nothing, and a file alone is as good as its directory.
	cluster.InstallCRDs(t, filepath.Join("testdata", "crds", "two.yaml"))
	cluster.ApplyFiles(t, "testdata/crds")
}

func TestKubeconfigIsEnoughToConnect(t *testing.T) {
	t.Parallel()
	cluster, _ := start(t)
	user := cluster.As(t, "somebody", "readers", "writers")
	info, err := os.Stat(user.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("others can read the key in it: %v", info.Mode())
	}
	out := user.Kubectl(t, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username} {.status.userInfo.groups}")
	if out != `somebody ["readers","writers","system:authenticated"]` {
		t.Errorf("the API server takes it for %s", out)
	}
}
