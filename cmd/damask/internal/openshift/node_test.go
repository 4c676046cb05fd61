package openshift

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/cmd/damask/internal/openshift/openshifttest"
	"github.com/damask-sdn/damask/internal/kubetest"
)

// operator is what who takes nodes over may do.
const operator = "../../../../deploy/kustomize/takeover/operator.yaml"

// TestTakingNodes runs with the rights that are shipped, and no others.
func TestTakingNodes(t *testing.T) {
	sample := openshifttest.Fill(t, kubetest.Start(t), openshifttest.Size{Nodes: 4, Namespaces: 2, Firewalls: 1, Policies: 1})
	user := sample.As(t, "olga", "takers")
	sample.ApplyFiles(t, operator)
	sample.Kubectl(t, "create", "clusterrolebinding", "takers", "--clusterrole=damask-takeover", "--group=takers")
	await(t, user, "patch", "nodes")
	c, err := Open(Kubeconfig{File: user.Kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	cluster, _, err := c.Read(t.Context())
	if err := errors.Join(err, c.MayChange(t.Context())); err != nil {
		t.Fatal(err)
	}
	all, err := c.Nodes(t.Context())
	if err != nil || len(all) != 5 {
		t.Fatalf("%d nodes, %v", len(all), err)
	}
	sees := func(node, want string) {
		t.Helper()
		const path = `jsonpath={.metadata.labels.damask\.io/agent} {.spec.unschedulable} {.metadata.annotations}`
		if got := strings.TrimSpace(sample.Kubectl(t, "get", "node", node, "-o", path)); got != want {
			t.Errorf("node %s is %q, want %q", node, got, want)
		}
	}
	t.Run("a node is cordoned, labelled and uncordoned", func(t *testing.T) {
		for range 2 { // the second time there is nothing to do
			n, err := c.Take(t.Context(), all["node0.ocp.cn"], true)
			if err != nil || n.Agent != Damask || !n.Cordoned || !n.CordonedByUs {
				t.Fatalf("%+v, %v", n, err)
			}
			sees("node0.ocp.cn", `damask true {"damask.io/cordoned-for-takeover":""}`)
		}
		for range 2 {
			if n, err := c.Uncordon(t.Context(), all["node0.ocp.cn"]); err != nil || n.Cordoned || n.CordonedByUs {
				t.Fatalf("%+v, %v", n, err)
			}
			sees("node0.ocp.cn", "damask")
		}
	})
	t.Run("one that was cordoned before stays so", func(t *testing.T) {
		sample.Kubectl(t, "cordon", "node1.ocp.cn")
		if n, err := c.Take(t.Context(), all["node1.ocp.cn"], true); err != nil || n.CordonedByUs || !n.Cordoned {
			t.Fatalf("%+v, %v", n, err)
		}
		if _, err := c.Uncordon(t.Context(), all["node1.ocp.cn"]); err != nil {
			t.Fatal(err)
		}
		sees("node1.ocp.cn", "damask true")
	})
	t.Run("without a wish it is not cordoned", func(t *testing.T) {
		if _, err := c.Take(t.Context(), all["node2.ocp.cn"], false); err != nil {
			t.Fatal(err)
		}
		sees("node2.ocp.cn", "damask")
	})
	t.Run("a change in between is looked at", func(t *testing.T) {
		got := 0
		c := through(t, user, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if got++; got == 1 { // the node was read: somebody cordons it now
				sample.Kubectl(t, "cordon", "node3.ocp.cn")
			}
			return response, err
		})
		if n, err := c.Take(t.Context(), all["node3.ocp.cn"], true); err != nil || n.CordonedByUs || got < 4 {
			t.Fatalf("%+v after %d requests, %v", n, got, err)
		}
		sees("node3.ocp.cn", "damask true")
	})
	t.Run("what it is by now is read again", func(t *testing.T) {
		sample.Kubectl(t, "patch", "hostsubnet", "node3.ocp.cn", "--type=merge", "-p", `{"hostIP": "192.168.109.99"}`)
		n, now, err := c.Again(t.Context(), cluster, "node3.ocp.cn")
		if err != nil || n.Agent != Damask || len(now.HostSubnets) != 5 || len(now.Nodes) != 5 || len(now.ClusterNetworks) != 1 {
			t.Fatalf("%+v, %v", n, err)
		}
		for _, h := range now.HostSubnets {
			if h.Metadata.Name == "node3.ocp.cn" && h.HostIP != "192.168.109.99" {
				t.Errorf("its address is still %s", h.HostIP)
			}
		}
		if _, _, err := c.Again(t.Context(), cluster, "nobody"); err == nil || !strings.Contains(err.Error(), "there is no HostSubnet nobody any more") {
			t.Errorf("a node that is gone: %v", err)
		}
	})
	t.Run("another machine of the name is not touched", func(t *testing.T) {
		sample.Kubectl(t, "delete", "node", "node2.ocp.cn")
		sample.Apply(t, "{apiVersion: v1, kind: Node, metadata: {name: node2.ocp.cn}}")
		if _, err := c.Take(t.Context(), all["node2.ocp.cn"], true); err == nil || !strings.Contains(err.Error(), "another machine by now") {
			t.Errorf("got %v", err)
		}
		sees("node2.ocp.cn", "")
	})
}

func TestTheShippedRoleIsThere(t *testing.T) {
	text, err := os.ReadFile(operator)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if !strings.Contains(string(text), k.resource.Resource) {
			t.Errorf("it does not speak of %s", k.resource.Resource)
		}
	}
}
