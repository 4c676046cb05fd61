package openshift

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	"github.com/damask-sdn/damask/cmd/damask/internal/openshift/openshifttest"
	"github.com/damask-sdn/damask/internal/kubetest"
)

// TestReading reads a cluster with more objects than a page has.
func TestReading(t *testing.T) {
	sample := openshifttest.Fill(t, kubetest.Start(t), openshifttest.Size{Nodes: 120, Namespaces: 600, Firewalls: 50, Policies: 150})
	want := map[string]int{"ClusterNetwork": 1, "HostSubnet": 121, "Node": 121, "NetNamespace": 604, "EgressNetworkPolicy": 50, "NetworkPolicy": 150}
	t.Run("everything is read, and would be kept", func(t *testing.T) {
		c, err := Open(Kubeconfig{File: sample.Kubeconfig()})
		if err != nil {
			t.Fatal(err)
		}
		cluster, later, err := c.Read(t.Context())
		if err != nil || len(later) > 0 {
			t.Fatalf("%v, later: %v", err, later)
		}
		report := adopt.Check(cluster)
		if !maps.Equal(report.Objects, want) || report.Lost() != 0 {
			t.Errorf("objects %v, want %v; lost %d: %v", report.Objects, want, report.Lost(), report.Findings)
		}
		if len(report.Order) != 121 || report.Order[0] != "infra.ocp.cn" {
			t.Errorf("order %v", report.Order)
		}
		if said := cluster.NetworkPolicies[0].Spec.Said; said["podSelector"] == nil || said["policyTypes"] == nil {
			t.Errorf("of a policy is known %v", said)
		}
	})
	t.Run("as kubectl prints it is the same", func(t *testing.T) {
		var printed adopt.Cluster
		for _, kinds := range []string{"clusternetworks,hostsubnets,netnamespaces,nodes", "egressnetworkpolicies,networkpolicies"} {
			if _, err := printed.Read(strings.NewReader(sample.Kubectl(t, "get", kinds, "--all-namespaces", "-o", "json"))); err != nil {
				t.Fatal(err)
			}
		}
		c, err := newClient(sample.Config())
		if err != nil {
			t.Fatal(err)
		}
		cluster, _, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a, b := adopt.Check(printed), adopt.Check(cluster)
		if !slices.Equal(a.Findings, b.Findings) || !slices.Equal(a.Order, b.Order) || !maps.Equal(a.Objects, b.Objects) {
			t.Errorf("by kubectl %v, read %v", a, b)
		}
	})
	t.Run("what changes meanwhile is not seen", func(t *testing.T) {
		var asked atomic.Int32
		c := through(t, sample.User, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			if asked.Add(1) == 1 { // the first kind is read
				sample.Namespace(t, "newcomer", 42)
				sample.Kubectl(t, "delete", "hostsubnet", "node7.ocp.cn")
			}
			return response, err
		})
		cluster, later, err := c.Read(t.Context())
		if err != nil || len(later) > 0 {
			t.Fatalf("%v, later: %v", err, later)
		}
		if got := adopt.Check(cluster).Objects; !maps.Equal(got, want) {
			t.Errorf("objects %v, want those of the beginning %v", got, want)
		}
	})
	t.Run("a moment that is forgotten is chosen anew", func(t *testing.T) {
		var asked atomic.Int32
		c := through(t, sample.User, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if asked.Add(1) == 4 {
				return says(r, http.StatusGone, "Expired", ""), nil
			}
			return next.RoundTrip(r)
		})
		cluster, _, err := c.Read(t.Context())
		if got := adopt.Check(cluster).Objects; err != nil || got["HostSubnet"] != 120 || got["NetNamespace"] != 605 || got["NetworkPolicy"] != 150 {
			t.Errorf("objects %v, %v", got, err)
		}
	})
	t.Run("a kind that is kept elsewhere is said so", func(t *testing.T) {
		c := through(t, sample.User, func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/networkpolicies") && r.URL.Query().Get("resourceVersion") != "" {
				return says(r, http.StatusGatewayTimeout, "Timeout", `"details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}, `), nil
			}
			return next.RoundTrip(r)
		})
		cluster, later, err := c.Read(t.Context())
		if err != nil || !slices.Equal(later, []string{"NetworkPolicy"}) || len(cluster.NetworkPolicies) != 150 {
			t.Errorf("later %v, %d policies, %v", later, len(cluster.NetworkPolicies), err)
		}
	})
	t.Run("what may not be read is named at once", func(t *testing.T) {
		user := sample.As(t, "half", "halves")
		sample.Apply(t, grant("half", "halves", "{apiGroups: [network.openshift.io], resources: [clusternetworks, hostsubnets], verbs: [list]}"))
		await(t, user, "list", "hostsubnets.network.openshift.io")
		c, err := Open(Kubeconfig{File: user.Kubeconfig()})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Read(t.Context())
		expect(t, err, `User "half" cannot list`,
			"- {apiGroups: [network.openshift.io], resources: [netnamespaces, egressnetworkpolicies], verbs: [list]}",
			`- {apiGroups: [""], resources: [nodes], verbs: [list]}`, "- {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list]}")
		expect(t, c.MayChange(t.Context()), "resources: [clusternetworks], verbs: [get]", "resources: [hostsubnets], verbs: [get]", "resources: [nodes], verbs: [get, patch]")
	})
}

func TestOtherClustersAreRefused(t *testing.T) {
	cluster := kubetest.Start(t)
	c, err := Open(Kubeconfig{File: cluster.Kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Read(t.Context())
	expect(t, err, "this is not an OpenShift SDN cluster: the API server at https://127.", "has no ClusterNetwork, HostSubnet, NetNamespace, EgressNetworkPolicy")
	cluster.StopServer()
	if _, _, err := c.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "list clusternetworks at https://127.") {
		t.Errorf("an API server that is away: %v", err)
	}
}

func TestKubeconfigsAreFoundAsKubectlFindsThem(t *testing.T) {
	const text = `{apiVersion: v1, kind: Config, current-context: here, clusters: [{name: one, cluster: {server: "https://192.0.2.1:6443"}}, {name: two, cluster: {server: "https://192.0.2.2:6443"}}],
  contexts: [{name: here, context: {cluster: one}}, {name: there, context: {cluster: two}}]}`
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none")+":"+file)
	for name, tc := range map[string]struct {
		given Kubeconfig
		want  string
	}{
		"by the environment": {Kubeconfig{}, "https://192.0.2.1:6443"},
		"by name":            {Kubeconfig{File: file}, "https://192.0.2.1:6443"},
		"another context":    {Kubeconfig{Context: "there"}, "https://192.0.2.2:6443"},
	} {
		if c, err := Open(tc.given); err != nil || c.server != tc.want {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for name, given := range map[string]Kubeconfig{"no such file": {File: file + ".no"}, "no such context": {Context: "nowhere"}} {
		if _, err := Open(given); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	if _, err := Open(Kubeconfig{}); err == nil || !strings.Contains(err.Error(), "neither --kubeconfig nor KUBECONFIG") {
		t.Errorf("no kubeconfig at all: %v", err)
	}
}
