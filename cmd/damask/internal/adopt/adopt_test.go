package adopt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// good is a cluster as `oc get … -o yaml` prints it, in which all can be kept.
const good = `
apiVersion: v1
kind: List
items:
- apiVersion: network.openshift.io/v1
  kind: ClusterNetwork
  metadata: {name: default}
  network: 10.128.0.0/14
  hostsubnetlength: 9
  serviceNetwork: 172.30.0.0/16
  pluginName: redhat/openshift-ovs-multitenant
  clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]
  vxlanPort: 4789
  mtu: 1450
- kind: HostSubnet
  metadata: {name: master, annotations: {pod.network.openshift.io/node-uid: u1}}
  host: master
  hostIP: 192.168.108.111
  subnet: 10.128.0.0/23
- kind: HostSubnet
  metadata: {name: infra, annotations: {pod.network.openshift.io/node-uid: u2}}
  host: infra
  hostIP: 192.168.108.113
  subnet: 10.129.0.0/23
- {kind: Node, metadata: {name: master, uid: u1}, status: {addresses: [{type: Hostname, address: master}, {type: InternalIP, address: 192.168.108.111}]}}
- {kind: Node, metadata: {name: infra, uid: u2}, status: {addresses: [{type: InternalIP, address: 192.168.108.113}]}}
- {kind: NetNamespace, metadata: {name: default}, netname: default, netid: 0}
- {kind: NetNamespace, metadata: {name: kube-public}, netname: kube-public, netid: 8583346}
- {kind: NetNamespace, metadata: {name: joined}, netname: joined, netid: 8583346}
- {kind: ConfigMap, metadata: {name: stranger}, data: {a: b}}
---
{"kind": "EgressNetworkPolicy", "metadata": {"namespace": "kube-public", "name": "default"}, "spec": {"egress": [
  {"type": "Allow", "to": {"dnsName": "example.com"}}, {"type": "Deny", "to": {"cidrSelector": "0.0.0.0/0"}}]}}
`

func read(t *testing.T, texts ...string) Cluster {
	t.Helper()
	var c Cluster
	for _, text := range texts {
		if _, err := c.Read(strings.NewReader(text)); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	return c
}

func findings(c Cluster) []string {
	var all []string
	for _, f := range Check(c).Findings {
		all = append(all, fmt.Sprintf("%s %s %s: %s", f.Verdict, f.Kind, f.Name, f.Reason))
	}
	return all
}

func TestAClusterThatCanBeKeptHasNothingLost(t *testing.T) {
	c := read(t, good)
	r := Check(c)
	if r.Lost() != 0 {
		t.Errorf("lost: %v", r.Findings)
	}
	for kind, n := range map[string]int{"ClusterNetwork": 1, "HostSubnet": 2, "NetNamespace": 3, "Node": 2, "EgressNetworkPolicy": 1, "NetworkPolicy": 0} {
		if r.Objects[kind] != n {
			t.Errorf("%d of kind %s, want %d", r.Objects[kind], kind, n)
		}
	}
	// Of joined namespaces a firewall is judged in another way than before: nothing else is to be told.
	if got := findings(c); len(got) != 1 || !strings.HasPrefix(got[0], "differs EgressNetworkPolicy kube-public/default: its namespace shares its VNID (joined, kube-public)") {
		t.Errorf("findings: %q", got)
	}
	if !slices.Equal(r.Order, []string{"infra", "master"}) {
		t.Errorf("order %v", r.Order)
	}
}

func TestEverythingThatCannotBeKeptIsNamed(t *testing.T) {
	const subnet = "{kind: HostSubnet, metadata: {name: x}, host: x, hostIP: 192.168.108.120, subnet: 10.130.0.0/23}"
	for name, tc := range map[string]struct {
		from, to string // in the good cluster
		more     string
		want     []string
	}{
		"no plan":           {"name: default}\n  network", "name: other}\n  network", "", []string{"lost ClusterNetwork other: there is one plan", "lost ClusterNetwork default: there is none"}},
		"a foreign plugin":  {"redhat/openshift-ovs-multitenant", "OVNKubernetes", "", []string{`pluginName "OVNKubernetes" is not one of OpenShift SDN's`}},
		"overlapping":       {"172.30.0.0/16", "10.130.0.0/16", "", []string{"serviceNetwork 10.130.0.0/16 overlaps 10.128.0.0/14"}},
		"a length":          {"hostSubnetLength: 9}", "hostSubnetLength: 19}", "", []string{"hostSubnetLength 19 is not 2 to 18"}},
		"a port":            {"vxlanPort: 4789", "vxlanPort: 70000", "", []string{"vxlanPort 70000 is not a port"}},
		"an MTU":            {"mtu: 1450", "mtu: 500", "", []string{"mtu 500 is not 576 to 65535"}},
		"a subnet twice":    {"", "", strings.ReplaceAll(subnet, "10.130.0.0/23", "10.129.0.0/23"), []string{"lost HostSubnet x: subnet 10.129.0.0/23 belongs to infra too"}},
		"a subnet outside":  {"", "", strings.ReplaceAll(subnet, "10.130.0.0/23", "10.9.0.0/23"), []string{"subnet 10.9.0.0/23 is not a node's subnet"}},
		"another length":    {"", "", strings.ReplaceAll(subnet, "/23", "/24"), []string{"subnet 10.130.0.0/24 is not a node's subnet"}},
		"an address twice":  {"", "", strings.ReplaceAll(subnet, "108.120", "108.113"), []string{"hostIP 192.168.108.113 belongs to infra too"}},
		"a pod's address":   {"", "", strings.ReplaceAll(subnet, "192.168.108.120", "10.128.9.9"), []string{"hostIP 10.128.9.9 is an address of the pod or the service network"}},
		"another host":      {"", "", strings.ReplaceAll(subnet, "host: x", "host: y"), []string{`its host is "y"`}},
		"a fixed VNID":      {"", "", strings.ReplaceAll(subnet, "{name: x}", "{name: x, annotations: {pod.network.openshift.io/fixed-vnid-host: \"7\"}}"), []string{"fixed-vnid-host: Damask knows no host"}},
		"another machine":   {"uid: u2}, status", "uid: u3}, status", "", []string{"lost HostSubnet infra: it was made for another machine (u2)"}},
		"a moved node":      {"InternalIP, address: 192.168.108.113", "InternalIP, address: 192.168.108.114", "", []string{`its hostIP is 192.168.108.113, and the Node's InternalIP "192.168.108.114"`}},
		"no machine":        {"", "", strings.ReplaceAll(subnet, "{name: x}", "{name: x, annotations: {pod.network.openshift.io/node-uid: u9}}"), []string{"differs HostSubnet x: there is no Node of that name"}},
		"a new node":        {"", "", "{kind: Node, metadata: {name: y}}", []string{"differs Node y: it has no HostSubnet"}},
		"a reserved VNID":   {"", "", "{kind: NetNamespace, metadata: {name: n}, netname: n, netid: 5}", []string{"lost NetNamespace n: netid 5 is reserved"}},
		"a VNID too high":   {"", "", "{kind: NetNamespace, metadata: {name: n}, netname: n, netid: 16777216}", []string{"netid 16777216 is not 0 to 16777215"}},
		"a change":          {"", "", "{kind: NetNamespace, metadata: {name: n, annotations: {pod.network.openshift.io/multitenant.change-network: isolate}}, netname: n, netid: 50}", []string{`"isolate" is asked for and not done`}},
		"an egress IP":      {"", "", "{kind: NetNamespace, metadata: {name: n}, netname: n, netid: 50, egressIPs: [10.128.0.9, 192.168.108.111, x]}", []string{"egress IP 10.128.0.9 is an address of the pod", "egress IP 192.168.108.111 is the address of a node", `egress IP "x" is no IPv4`}},
		"an egress IP of 2": {"", "", "kind: List\nitems:\n- {kind: NetNamespace, metadata: {name: n}, netname: n, netid: 50, egressIPs: [192.0.2.1]}\n- {kind: NetNamespace, metadata: {name: o}, netname: o, netid: 51, egressIPs: [192.0.2.1]}", []string{"lost NetNamespace n: egress IP 192.0.2.1 is wanted by several namespaces (n, o)", "lost NetNamespace o"}},
		"a host of one":     {"", "", strings.ReplaceAll(subnet, "subnet:", "egressIPs: [192.0.2.1], egressCIDRs: [192.0.2.0/33], subnet:"), []string{"differs HostSubnet x: it hosts egress IPs", `egressCIDR "192.0.2.0/33" is no network`}},
		"a firewall":        {"", "", "{kind: EgressNetworkPolicy, metadata: {namespace: default, name: a}, spec: {egress: [{type: Reject, to: {}}, {type: Deny, to: {cidrSelector: 10.0.0.1/8}}]}}", []string{`lost EgressNetworkPolicy default/a: egress[0].type: "Reject"`, "egress[0].to: exactly one", "10.0.0.1/8 has host bits", "differs EgressNetworkPolicy default/a: its namespace is global"}},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, tc.from) {
				t.Fatalf("the good cluster has no %q", tc.from)
			}
			got := findings(read(t, strings.Replace(good, tc.from, tc.to, 1), tc.more))
			for _, want := range tc.want {
				if !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, want) }) {
					t.Errorf("%q is not among\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	}
}

func TestPoliciesThatMeantSomethingElseAreNamed(t *testing.T) {
	const policy = `{kind: NetworkPolicy, metadata: {namespace: shop, name: p}, spec: {ingress: [{
  ports: [{port: http}, {port: 80, endPort: 70}, {protocol: ICMP}, {port: 1000, endPort: 2000}],
  from: [{namespaceSelector: {}}, {namespaceSelector: {}, podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}, {ipBlock: {cidr: x}}]}]}}`
	if got := findings(read(t, good, policy)); len(got) != 1 {
		t.Errorf("policies that have no effect: %q", got)
	}
	got := strings.Join(findings(read(t, strings.ReplaceAll(good, multitenantPlugin, policyPlugin), policy)), "\n")
	for want, times := range map[string]int{
		`differs NetworkPolicy shop/p: ingress[0]: port "http" is a name`:                 1,
		"lost NetworkPolicy shop/p: ingress[0]: endPort 70 is not 80 to 65535":            1,
		`lost NetworkPolicy shop/p: ingress[0]: protocol "ICMP"`:                          1,
		"differs NetworkPolicy shop/p: ingress[0]: a range of ports":                      2,
		"differs NetworkPolicy shop/p: ingress[0]: an empty namespaceSelector":            1,
		"lost NetworkPolicy shop/p: ingress[0]: except 11.0.0.0/16 is no part of":         1,
		"lost NetworkPolicy shop/p: ingress[0]: ipBlock x is no network":                  1,
		"differs NetNamespace joined: netid 8583346 belongs to joined, kube-public: Open": 1,
	} {
		if strings.Count(got, want) != times {
			t.Errorf("%q is there %d times, want %d:\n%s", want, strings.Count(got, want), times, got)
		}
	}
}

func TestWhatIsNoObjectIsRefusedWithItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"a: b":                            "document 1: line 1: not an object of Kubernetes: it has no kind",
		"kind: A\n---\n- a":               "document 2: line 3: not an object of Kubernetes",
		"kind: [":                         "document 1:",
		"kind: NetNamespace\nnetid: many": "line 1: NetNamespace: ",
	} {
		var c Cluster
		if _, err := c.Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadAndCheck(f *testing.F) {
	f.Add(good)
	f.Add("{kind: NetworkPolicy, spec: {egress: [{ports: [{port: 1.5}], to: [{ipBlock: {cidr: '::/0', except: [a]}}]}]}}")
	f.Fuzz(func(t *testing.T, text string) {
		var c Cluster
		if _, err := c.Read(strings.NewReader(text)); err != nil {
			return
		}
		for _, finding := range Check(c).Findings {
			if finding.Reason == "" || finding.Kind == "" {
				t.Errorf("%q: a finding that says nothing: %+v", text, finding)
			}
		}
	})
}
