package kubelets

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
)

const (
	deployDir = "../../deploy"
	namespace = "damask-system"
)

// install does what deploy/README.md tells an administrator to do, with the overlay
// "small" and the first node for a control plane, and returns when all nodes are ready and
// the isolation mode is in force.
func (c *cluster) install(t *testing.T) {
	t.Helper()
	began := time.Now()
	var names []string
	for _, n := range c.nodes {
		names = append(names, n.Name())
	}
	c.until(t, strings.Join(names, " "), "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}")
	t.Logf("%d nodes are registered after %v", len(names), time.Since(began).Round(time.Second))
	c.Kubectl(t, "label", "node", c.nodes[0].Name(), "node-role.kubernetes.io/control-plane=")
	began = time.Now()
	c.Kubectl(t, "apply", "--server-side", "-k", c.overlay(t))
	c.waitUntilReady(t)
	c.wait(t, "clusternetwork/default", "--for=condition=IsolationMode")
	t.Logf("%d nodes are ready %v after the manifests were applied", len(names), time.Since(began).Round(time.Second))
}

// waitUntilReady returns when every node is ready for pods, and Damask's own are.
func (c *cluster) waitUntilReady(t *testing.T) {
	t.Helper()
	ready := strings.TrimSpace(strings.Repeat("True ", len(c.nodes)))
	c.until(t, ready, "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
	for _, workload := range strings.Fields(c.Kubectl(t, "get", "deployments,statefulsets,daemonsets", "-n", namespace, "-o", "name")) {
		if out, err := c.TryKubectl("rollout", "status", workload, "-n", namespace, fmt.Sprintf("--timeout=%v", limit)); err != nil {
			c.show(t)
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// overlay answers a copy of the overlay, with this cluster's addresses in it and without
// an Open vSwitch, which the nodes have.
func (c *cluster) overlay(t *testing.T) string {
	t.Helper()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(deployDir)); err != nil {
		t.Fatalf("copy the manifests: %v", err)
	}
	overlay := filepath.Join(copied, "kustomize", "small")
	write(t, filepath.Join(overlay, "api-server.env"),
		fmt.Sprintf("KUBERNETES_SERVICE_HOST=%s\nKUBERNETES_SERVICE_PORT=%d\n", kubetest.Advertised, c.Port()))
	write(t, filepath.Join(overlay, "control.yaml"),
		fmt.Sprintf("- op: add\n  path: /spec/template/spec/hostAliases\n  value:\n  - {ip: %s, hostnames: [control-1]}\n", c.nodes[0].addr))
	kustomization := filepath.Join(overlay, "kustomization.yaml")
	text, err := os.ReadFile(kustomization)
	if err != nil {
		t.Fatal(err)
	}
	const component = "\n- ../ovs\n"
	if !strings.Contains(string(text), component) {
		t.Fatalf("the overlay has no component that is named %q", component)
	}
	write(t, kustomization, strings.Replace(string(text), component, "\n", 1))
	return overlay
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
