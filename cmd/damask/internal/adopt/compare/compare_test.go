package compare

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const objects = `
kind: List
items:
- {kind: ClusterNetwork, metadata: {name: default}, network: 10.128.0.0/14, hostsubnetlength: 9, serviceNetwork: 172.30.0.0/16, pluginName: redhat/openshift-ovs-networkpolicy, vxlanPort: 4789, mtu: 1450}
- {kind: HostSubnet, metadata: {name: infra}, host: infra, hostIP: 192.168.108.113, subnet: 10.129.0.0/23, egressIPs: [192.168.108.201, 192.168.108.200]}
- {kind: HostSubnet, metadata: {name: ranged}, host: ranged, hostIP: 192.168.108.114, subnet: 10.130.0.0/23, egressIPs: [192.168.108.220], egressCIDRs: [192.168.108.192/26]}
- {kind: NetNamespace, metadata: {name: kube-public}, netname: kube-public, netid: 8583346, egressIPs: [192.168.108.200]}
- kind: EgressNetworkPolicy
  metadata: {namespace: kube-public, name: default}
  spec: {egress: [{type: Allow, to: {dnsName: example.com}}, {type: Allow, to: {cidrSelector: 192.0.2.0/24}, ports: [{port: 443}, {protocol: UDP, port: 1, endPort: 9}]}, {type: Deny, to: {cidrSelector: 0.0.0.0/32}}]}
- kind: NetworkPolicy
  metadata: {namespace: kube-public, name: web}
  spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {a: b}}}], ports: [{port: 80}, {port: http}]}]}
`

// stores are what Damask has of these objects.
func stores() Stores {
	return Stores{
		Networks: []*ipamv1.ClusterNetwork{{
			Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14", HostSubnetLength: 9}},
			ServiceNetworks: []string{"172.30.0.0/16"}, Mtu: 1450,
		}},
		Mode: tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY,
		HostSubnets: []*ipamv1.HostSubnet{
			{Name: "ranged", HostIps: []string{"192.168.108.114"}, Subnets: []string{"10.130.0.0/23"}},
			{Name: "infra", HostIps: []string{"192.168.108.113"}, Subnets: []string{"10.129.0.0/23"}, NodeUid: "u"},
		},
		NodeEgress: []*egressv1.HostSubnetEgress{
			{Node: "infra", EgressIps: []string{"192.168.108.200", "192.168.108.201"}},
			{Node: "ranged", EgressCidrs: []string{"192.168.108.192/26"}},
		},
		NetNamespaces:   []*tenancyv1.NetNamespace{{Name: "kube-public", Netid: 8583346}},
		NamespaceEgress: []*egressv1.NetNamespaceEgress{{Namespace: "kube-public", EgressIps: []string{"192.168.108.200"}}},
		Firewalls: []*egressv1.EgressNetworkPolicy{{Namespace: "kube-public", Name: "default", Rules: []*egressv1.EgressRule{
			{Type: egressv1.RuleType_RULE_TYPE_ALLOW, DnsName: "example.com"},
			{Type: egressv1.RuleType_RULE_TYPE_ALLOW, CidrSelector: "192.0.2.0/24", Ports: []*egressv1.RulePort{
				{Protocol: egressv1.Protocol_PROTOCOL_TCP, Port: 443}, {Protocol: egressv1.Protocol_PROTOCOL_UDP, Port: 1, EndPort: 9},
			}},
			{Type: egressv1.RuleType_RULE_TYPE_DENY, CidrSelector: "0.0.0.0/0"},
		}}},
		Policies: []*tenancyv1.NetworkPolicy{
			{Key: &tenancyv1.PolicyKey{Kind: "AdminNetworkPolicy", Name: "first"}, Manifest: "kind: AdminNetworkPolicy"},
			{Key: &tenancyv1.PolicyKey{Kind: "NetworkPolicy", Namespace: "kube-public", Name: "web"}, Manifest: `{"kind": "NetworkPolicy", "spec": {
				"ingress": [{"ports": [{"port": 80}, {"port": "http"}], "from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}], "podSelector": {}}}`},
		},
	}
}

func cluster(t *testing.T) adopt.Cluster {
	t.Helper()
	var c adopt.Cluster
	if _, err := c.Read(strings.NewReader(objects)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsTheSameIsNotNamed(t *testing.T) {
	if found := Differences(cluster(t), stores()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestEveryDifferenceIsNamed(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(s *Stores)
		want   []string
	}{
		"no plan":            {func(s *Stores) { s.Networks = nil }, []string{"ClusterNetwork default : is there | "}},
		"another plan":       {func(s *Stores) { s.Networks[0].Networks[0].HostSubnetLength = 8 }, []string{"ClusterNetwork default clusterNetworks: 10.128.0.0/14:9 | 10.128.0.0/14:8"}},
		"other services":     {func(s *Stores) { s.Networks[0].ServiceNetworks = nil }, []string{"ClusterNetwork default serviceNetwork: 172.30.0.0/16 | "}},
		"another port":       {func(s *Stores) { s.Networks[0].Tunnel = &ipamv1.Tunnel{Port: 4790} }, []string{"ClusterNetwork default vxlanPort: 4789 | 4790"}},
		"another MTU":        {func(s *Stores) { s.Networks[0].Mtu = 0 }, []string{"ClusterNetwork default mtu: 1450 | 0"}},
		"another mode":       {func(s *Stores) { s.Mode = tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET }, []string{"ClusterNetwork default pluginName: redhat/openshift-ovs-networkpolicy | redhat/openshift-ovs-subnet"}},
		"a node less":        {func(s *Stores) { s.HostSubnets = s.HostSubnets[1:] }, []string{"HostSubnet ranged : is there | "}},
		"a node more":        {func(s *Stores) { s.HostSubnets = append(s.HostSubnets, &ipamv1.HostSubnet{Name: "new"}) }, []string{"HostSubnet new :  | is there"}},
		"another subnet":     {func(s *Stores) { s.HostSubnets[1].Subnets[0] = "10.131.0.0/23" }, []string{"HostSubnet infra subnet: 10.129.0.0/23 | 10.131.0.0/23"}},
		"another address":    {func(s *Stores) { s.HostSubnets[1].HostIps[0] = "192.168.108.9" }, []string{"HostSubnet infra hostIP: 192.168.108.113 | 192.168.108.9"}},
		"hosts less":         {func(s *Stores) { s.NodeEgress = nil }, []string{"HostSubnet infra egressIPs: 192.168.108.200 192.168.108.201 | ", "HostSubnet ranged egressCIDRs: 192.168.108.192/26 | "}},
		"a namespace less":   {func(s *Stores) { s.NetNamespaces = nil }, []string{"NetNamespace kube-public : is there | "}},
		"another VNID":       {func(s *Stores) { s.NetNamespaces[0].Netid = 7 }, []string{"NetNamespace kube-public netid: 8583346 | 7"}},
		"another way out":    {func(s *Stores) { s.NamespaceEgress[0].EgressIps[0] = "192.168.108.7" }, []string{"NetNamespace kube-public egressIPs: 192.168.108.200 | 192.168.108.7"}},
		"no firewall":        {func(s *Stores) { s.Firewalls = nil }, []string{"EgressNetworkPolicy kube-public/default : is there | "}},
		"another place":      {func(s *Stores) { s.Firewalls[0].Order = 3 }, []string{"EgressNetworkPolicy kube-public/default order: 0 | 3"}},
		"a rule less":        {func(s *Stores) { s.Firewalls[0].Rules = s.Firewalls[0].Rules[:2] }, []string{"EgressNetworkPolicy kube-public/default egress[2]: Deny 0.0.0.0/0 | "}},
		"another rule":       {func(s *Stores) { s.Firewalls[0].Rules[1].Ports[1].EndPort = 8 }, []string{"EgressNetworkPolicy kube-public/default egress[1]: Allow 192.0.2.0/24 TCP:443-443 UDP:1-9 | Allow 192.0.2.0/24 TCP:443-443 UDP:1-8"}},
		"no policy":          {func(s *Stores) { s.Policies = s.Policies[:1] }, []string{"NetworkPolicy kube-public/web : is there | "}},
		"another policy":     {func(s *Stores) { s.Policies[1].Manifest = `{spec: {podSelector: {}, egress: []}}` }, []string{"NetworkPolicy kube-public/web spec.egress:  | []", `NetworkPolicy kube-public/web spec.ingress: [{"from":[{"namespaceSelector":{"matchLabels":{"a":"b"}}}],"ports":[{"port":80},{"port":"http"}]}] | `}},
		"one not understood": {func(s *Stores) { s.Policies[1].Manifest = "{" }, []string{"NetworkPolicy kube-public/web spec: is there | not understood: yaml: line 1: did not find expected node content"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := stores()
			tc.change(&s)
			var got []string
			for _, d := range Differences(cluster(t), s) {
				got = append(got, fmt.Sprintf("%s %s %s: %s | %s", d.Kind, d.Name, d.Field, d.Object, d.Damask))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%q\nwant\n%q", got, tc.want)
			}
		})
	}
}

func TestOfOneNodeOnlyItsDifferencesAreNamed(t *testing.T) {
	s := stores()
	s.HostSubnets = []*ipamv1.HostSubnet{proto.CloneOf(s.HostSubnets[1])}
	if found := Node(cluster(t), s, "infra"); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	s.HostSubnets[0].HostIps[0] = "192.168.108.9"
	if found := Node(cluster(t), s, "infra"); len(found) != 1 || found[0].Field != "hostIP" {
		t.Errorf("found %v", found)
	}
}

// FuzzObjects: whatever objects say, each that Damask has not is named, and nothing breaks.
func FuzzObjects(f *testing.F) {
	f.Add(objects)
	f.Add("{kind: NetworkPolicy, metadata: {name: a}, spec: {1: 2, ingress: [{ports: [{port: 1.5}]}]}}")
	f.Add("{kind: EgressNetworkPolicy, metadata: {name: a}, spec: {order: -1, egress: [{ports: [{}]}]}}")
	f.Fuzz(func(t *testing.T, text string) {
		var c adopt.Cluster
		if _, err := c.Read(strings.NewReader(text)); err != nil {
			return
		}
		if n := len(c.HostSubnets) + len(c.NetNamespaces) + len(c.EgressNetworkPolicies) + len(c.NetworkPolicies); len(Differences(c, Stores{})) < n {
			t.Errorf("Damask has nothing, and of %d objects not all are named", n)
		}
		_ = Differences(c, stores())
	})
}
