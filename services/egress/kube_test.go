package egress

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/kubetest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/names/zonetest"
)

// onKubernetes starts an API server with a node n1, n2, … each with a HostSubnet, a namespace
// shop and a namespace bank with NetNamespaces, agents, and replicas that follow it.
func onKubernetes(t *testing.T, replicas int) (*system, *kubetest.Cluster, *fabric) {
	t.Helper()
	cluster := kubetest.Start(t)
	cluster.InstallCRDs(t, "../../deploy/crds")
	sys, f := newSystem(t), newFabric(t)
	sys.objects, sys.zone = follower(t, cluster), zonetest.Start(t)
	sys.dns = []string{sys.zone.Address}
	sys.ipam.register(2)
	for n := 1; n <= 2; n++ {
		name := fmt.Sprintf("n%d", n)
		cluster.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s}}", name))
		hostSubnet(t, cluster, n)
	}
	for i, name := range []string{"shop", "bank"} {
		cluster.Kubectl(t, "create", "namespace", name)
		netNamespace(t, cluster, name, 42+i)
		sys.tenancy.netid(name, uint32(42+i)) //nolint:gosec // small
	}
	for range replicas {
		sys.startReplica()
	}
	for n := 1; n <= 2; n++ {
		sys.startAgent(f, fmt.Sprintf("n%d", n), fmt.Sprintf("192.0.2.%d/24", 100+n))
	}
	return sys, cluster, f
}

// follower makes the user that the service is, with the rights that are shipped and no others.
func follower(t *testing.T, cluster *kubetest.Cluster) (kubeconfig string) {
	t.Helper()
	return cluster.AsServiceAccount(t, "../../deploy/kustomize/base/rbac/egress.yaml").Kubeconfig()
}

func hostSubnet(t *testing.T, cluster *kubetest.Cluster, n int) {
	t.Helper()
	cluster.Apply(t, fmt.Sprintf(`{apiVersion: network.openshift.io/v1, kind: HostSubnet, metadata: {name: n%d}, host: n%d, hostIP: 192.0.2.%d, subnet: 10.128.%d.0/23}`, n, n, 100+n, 2*n))
}

func netNamespace(t *testing.T, cluster *kubetest.Cluster, name string, netid int) {
	t.Helper()
	cluster.Apply(t, fmt.Sprintf(`{apiVersion: network.openshift.io/v1, kind: NetNamespace, metadata: {name: %s}, netname: %s, netid: %d}`, name, name, netid))
}

func patch(t *testing.T, cluster *kubetest.Cluster, kind, name, text string) {
	t.Helper()
	cluster.Kubectl(t, "patch", kind, name, "--type=merge", "-p", text)
}

// shows waits until a part of an object has a text in it.
func shows(t *testing.T, cluster *kubetest.Cluster, kind, name, path, want string) {
	t.Helper()
	began := time.Now()
	got := ""
	for ctx := soonOnKubernetes(t); ctx.Err() == nil; {
		var err error
		if got, err = cluster.TryKubectl("get", kind, name, "-o", "jsonpath="+path); err == nil && (strings.Contains(got, want) && want != "" || got == want) {
			t.Logf("%s %s shows %q after %v", kind, name, want, time.Since(began).Round(time.Millisecond))
			return
		}
	}
	t.Fatalf("%s %s: %s is %q, want %q; the whole:\n%s", kind, name, path, got, want, cluster.Kubectl(t, "get", kind, name, "-o", "yaml"))
}

func soonOnKubernetes(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Where conditions are.
const (
	egressIPs = `{.status.conditions[?(@.type=="EgressIPs")].status}: {.status.conditions[?(@.type=="EgressIPs")].message}`
	accepted  = `{.status.conditions[?(@.type=="Accepted")].status}: {.status.conditions[?(@.type=="Accepted")].message}`
)

func TestOnKubernetesWhatAnAdministratorTypesIsHosted(t *testing.T) {
	_, cluster, f := onKubernetes(t, 1)
	// What others say of the object stays.
	cluster.Kubectl(t, "patch", "netnamespace", "shop", "--subresource=status", "--type=merge", "-p",
		`{"status": {"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}`)
	patch(t, cluster, "hostsubnet", "n1", `{"egressIPs": ["192.0.2.7"]}`)
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.7"]}`)
	f.until("n1", "192.0.2.7")
	shows(t, cluster, "netnamespace", "shop", egressIPs, "True: 192.0.2.7 is hosted by n1")
	shows(t, cluster, "netnamespace", "shop", accepted, "True: ")
	shows(t, cluster, "hostsubnet", "n1", egressIPs, "True: the node hosts 192.0.2.7")

	// Another namespace does not get it, and gets it at once when it is free.
	patch(t, cluster, "netnamespace", "bank", `{"egressIPs": ["192.0.2.7"]}`)
	shows(t, cluster, "netnamespace", "bank", egressIPs, "False: egress IP 192.0.2.7 belongs to namespace shop")
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.8", "2001:db8::1"]}`)
	shows(t, cluster, "netnamespace", "shop", egressIPs, "False: egressIPs[1]: ")
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": []}`)
	shows(t, cluster, "netnamespace", "bank", egressIPs, "True: 192.0.2.7 is hosted by n1")
	shows(t, cluster, "netnamespace", "shop", egressIPs, ": ")

	// Another host: first the one that lists it, then the one that lists it alone.
	patch(t, cluster, "hostsubnet", "n2", `{"egressIPs": ["192.0.2.7"]}`)
	patch(t, cluster, "hostsubnet", "n1", `{"egressIPs": null}`)
	f.until("n2", "192.0.2.7")
	shows(t, cluster, "netnamespace", "bank", egressIPs, "True: 192.0.2.7 is hosted by n2")
	for ctx := soonOnKubernetes(t); !strings.Contains(cluster.Kubectl(t, "get", "events", "-n", "default"), "egress IP 192.0.2.7 is hosted by node n2, before by n1"); {
		if ctx.Err() != nil {
			t.Fatalf("there is no event of the new host:\n%s", cluster.Kubectl(t, "get", "events", "-A"))
		}
	}
	// A namespace that is gone wants nothing.
	cluster.DeleteNamespace(t, "bank")
	cluster.Kubectl(t, "delete", "netnamespace", "bank")
	f.until("n2")
}

func TestOnKubernetesARangeFillsTheAddressesOfItsNode(t *testing.T) {
	_, cluster, f := onKubernetes(t, 1)
	patch(t, cluster, "hostsubnet", "n1", `{"egressCIDRs": ["192.0.2.0/26"]}`)
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.9"]}`)
	f.until("n1", "192.0.2.9")
	shows(t, cluster, "hostsubnet", "n1", "{.egressIPs}", `["192.0.2.9"]`)
	patch(t, cluster, "hostsubnet", "n1", `{"egressIPs": ["192.0.2.20"]}`)
	shows(t, cluster, "hostsubnet", "n1", "{.egressIPs}", `["192.0.2.9"]`)
	shows(t, cluster, "hostsubnet", "n1", "{.egressCIDRs}", `["192.0.2.0/26"]`)
}

func TestOnKubernetesPoliciesFollowTheirObjects(t *testing.T) {
	sys, cluster, _ := onKubernetes(t, 1)
	const text = `{apiVersion: network.openshift.io/v1, kind: EgressNetworkPolicy, metadata: {name: default, namespace: shop}, spec: {egress: [{type: Deny, to: {cidrSelector: %s}}]}}`
	cluster.Apply(t, fmt.Sprintf(text, "198.51.100.0/24"))
	show := func(want string) {
		t.Helper()
		for ctx := soonOnKubernetes(t); ; {
			page, err := sys.operator().ListEgressNetworkPolicies(ctx, &egressv1.ListEgressNetworkPoliciesRequest{})
			got := ""
			for _, p := range page.GetEgressNetworkPolicies() {
				got += p.GetNamespace() + "/" + p.GetName() + " " + p.GetRules()[0].GetCidrSelector()
			}
			if err == nil && got == want {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("policies are %q, want %q: %v", got, want, err)
			}
		}
	}
	show("shop/default 198.51.100.0/24")
	cluster.Kubectl(t, "wait", "egressnetworkpolicy", "default", "-n", "shop", "--for=condition=Accepted", "--timeout=60s")
	cluster.Apply(t, fmt.Sprintf(text, "198.51.100.1/24"))
	cluster.Kubectl(t, "wait", "egressnetworkpolicy", "default", "-n", "shop", "--for=condition=Accepted=False", "--timeout=60s")
	if got := cluster.Kubectl(t, "get", "egressnetworkpolicy", "default", "-n", "shop", "-o", "jsonpath="+accepted); !strings.Contains(got, "spec.egress[0].to.cidrSelector") {
		t.Errorf("it is refused with %q", got)
	}
	show("shop/default 198.51.100.0/24")
	cluster.Kubectl(t, "delete", "egressnetworkpolicy", "default", "-n", "shop")
	show("")
}

// TestOnKubernetesWhatIsLostComesBack loses an object, the store, the API server and a replica.
func TestOnKubernetesWhatIsLostComesBack(t *testing.T) {
	sys, cluster, f := onKubernetes(t, 1)
	stop := sys.startReplica()
	patch(t, cluster, "hostsubnet", "n1", `{"egressIPs": ["192.0.2.7", "192.0.2.8"]}`)
	patch(t, cluster, "hostsubnet", "n2", `{"egressCIDRs": ["192.0.2.0/26"]}`)
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.7"]}`)
	f.until("n1", "192.0.2.7")
	shows(t, cluster, "netnamespace", "shop", egressIPs, "True: ")

	cluster.Kubectl(t, "delete", "netnamespace", "shop")
	netNamespace(t, cluster, "shop", 42)
	shows(t, cluster, "netnamespace", "shop", "{.egressIPs}", `["192.0.2.7"]`)
	cluster.Kubectl(t, "delete", "hostsubnet", "n1", "n2")
	hostSubnet(t, cluster, 1)
	hostSubnet(t, cluster, 2)
	shows(t, cluster, "hostsubnet", "n1", "{.egressIPs}", `["192.0.2.7","192.0.2.8"]`)
	shows(t, cluster, "hostsubnet", "n2", "{.egressCIDRs}", `["192.0.2.0/26"]`)

	cluster.StopServer()
	if got := sys.operator().want(t, "bank", "192.0.2.8"); got.GetRevision() == 0 { // RPCs go on
		t.Error("it was not stored")
	}
	stop()
	cluster.StartServer(t)
	shows(t, cluster, "netnamespace", "bank", "{.egressIPs}", `["192.0.2.8"]`) // known to the store alone
	f.until("n1", "192.0.2.7", "192.0.2.8")

	// Services that start with nothing.
	sys = newSystem(t)
	sys.objects = follower(t, cluster)
	sys.startReplica()
	began := time.Now()
	for ctx := soonOnKubernetes(t); ; {
		page, err := sys.operator().ListNetNamespaceEgress(ctx, &egressv1.ListNetNamespaceEgressRequest{})
		offers, errOffers := sys.operator().ListHostSubnetEgress(ctx, &egressv1.ListHostSubnetEgressRequest{})
		if err == nil && errOffers == nil && len(page.GetNetNamespaceEgress()) == 2 && len(offers.GetHostSubnetEgress()) == 2 &&
			slices.Equal(offers.GetHostSubnetEgress()[0].GetEgressIps(), []string{"192.0.2.7", "192.0.2.8"}) {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the store has %v and %v: %v, %v", page, offers, err, errOffers)
		}
	}
	t.Logf("a lost store has all again after %v", time.Since(began).Round(time.Millisecond))
}

// TestOnKubernetesAPolicySaysWhichOfItsNamesHaveNoAddress has a name that nobody knows, and
// then somebody does.
func TestOnKubernetesAPolicySaysWhichOfItsNamesHaveNoAddress(t *testing.T) {
	sys, cluster, _ := onKubernetes(t, 1)
	sys.zone.Set("known.example.com", "known.example.com 1 A 203.0.113.7")
	const path = `{.status.conditions[?(@.type=="NamesResolved")].status}: {.status.conditions[?(@.type=="NamesResolved")].message}`
	show := func(want string) {
		t.Helper()
		shows(t, cluster, "egressnetworkpolicy", "out", path, want)
	}
	const text = `{apiVersion: network.openshift.io/v1, kind: EgressNetworkPolicy, metadata: {name: out, namespace: default}, spec: {egress: [%s{type: Deny, to: {cidrSelector: 0.0.0.0/0}}]}}`
	names := func(all ...string) {
		rules := ""
		for _, name := range all {
			rules += fmt.Sprintf(`{type: Allow, to: {dnsName: %q}}, `, name)
		}
		cluster.Apply(t, fmt.Sprintf(text, rules))
	}
	names("known.example.com", "new.example.com", "*.example.org")
	show("False: new.example.com has no address: ")
	shows(t, cluster, "egressnetworkpolicy", "out", accepted, "True: the policy is in force")
	sys.zone.Set("new.example.com", "new.example.com 1 A 203.0.113.8")
	show("True: every name has addresses")
	sys.zone.Silence("known.example.com")
	show("False: known.example.com keeps the addresses that it had: ")
	names("new.example.com")
	show("True: every name has addresses")
	names()
	show(": ")
	if got := cluster.Kubectl(t, "get", "events", "-n", "default"); !strings.Contains(got, "NotResolved") {
		t.Errorf("no event tells of it:\n%s", got)
	}
}

// TestOnKubernetesWhatNoNodeMayHostSaysSo has ranges that are too small for what is wished, and
// then are not.
func TestOnKubernetesWhatNoNodeMayHostSaysSo(t *testing.T) {
	_, cluster, f := onKubernetes(t, 1)
	patch(t, cluster, "hostsubnet", "n1", `{"egressCIDRs": ["192.0.2.8/31"]}`)
	patch(t, cluster, "netnamespace", "shop", `{"egressIPs": ["192.0.2.9"]}`)
	patch(t, cluster, "netnamespace", "bank", `{"egressIPs": ["192.0.2.10"]}`)
	shows(t, cluster, "netnamespace", "shop", egressIPs, "True: 192.0.2.9 is hosted by n1")
	shows(t, cluster, "netnamespace", "bank", egressIPs, "False: 192.0.2.10 is not hosted: ")
	patch(t, cluster, "hostsubnet", "n1", `{"egressCIDRs": ["192.0.2.8/30"]}`)
	shows(t, cluster, "netnamespace", "bank", egressIPs, "True: 192.0.2.10 is hosted by n1")
	f.until("n1", "192.0.2.10", "192.0.2.9")

	// A range outside of the node's own network holds nothing that it can host.
	patch(t, cluster, "hostsubnet", "n2", `{"egressCIDRs": ["198.51.100.0/24"]}`)
	patch(t, cluster, "netnamespace", "bank", `{"egressIPs": ["198.51.100.7"]}`)
	shows(t, cluster, "netnamespace", "bank", egressIPs, "False: 198.51.100.7 is not hosted: ")
	patch(t, cluster, "netnamespace", "bank", `{"egressIPs": ["192.0.2.11"]}`)
	shows(t, cluster, "netnamespace", "bank", egressIPs, "True: 192.0.2.11 is hosted by n1")
}
