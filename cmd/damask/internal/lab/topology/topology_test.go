package topology

import (
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

func parse(t *testing.T, text string) *Topology {
	t.Helper()
	topology, err := Parse("topology.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

func TestATopologyWithNodesAloneGetsDefaults(t *testing.T) {
	got := parse(t, "nodes: [{name: node1, ip: 192.168.108.11}]")
	if got.Mode != "multitenant" || got.Underlay.String() != "192.168.108.0/24" || got.ServiceNetwork.String() != "172.30.0.0/16" {
		t.Errorf("got mode %q, underlay %s, service network %s", got.Mode, got.Underlay, got.ServiceNetwork)
	}
	if len(got.Outside) != 1 || got.Outside[0] != (Outside{Name: "outside", IP: netip.MustParseAddr("192.168.108.1")}) {
		t.Errorf("got outside %v, want one host outside at 192.168.108.1", got.Outside)
	}
	if got.ServiceEngine != "iptables" || got.LoadBalancerIPs.String() != "198.51.100.0/24" || got.Replicas.ServiceLB != 1 {
		t.Errorf("got engine %q, load-balancer addresses %s, %d servicelb", got.ServiceEngine, got.LoadBalancerIPs, got.Replicas.ServiceLB)
	}
	if len(got.Control) != 1 || got.Control[0].String() != "192.168.108.254" {
		t.Errorf("got control addresses %v, want 192.168.108.254", got.Control)
	}
}

func TestControlAndOutsideTakeAddressesThatAreFree(t *testing.T) {
	got := parse(t, `
nodes:
  - {name: a, ip: 192.168.108.1}
  - {name: b, ip: 192.168.108.254}
replicas: {ipam: 2}
`)
	if got.Outside[0].IP.String() != "192.168.108.2" {
		t.Errorf("got outside address %s, want 192.168.108.2", got.Outside[0].IP)
	}
	if len(got.Control) != 2 || got.Control[0].String() != "192.168.108.253" || got.Control[1].String() != "192.168.108.252" {
		t.Errorf("got control addresses %v, want .253 and .252", got.Control)
	}
}

func TestEveryWrongFieldIsRefusedWithItsLineAndTheReason(t *testing.T) {
	const node = "nodes: [{name: n1, ip: 192.168.108.11, subnet: 10.129.0.0/23}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"no nodes":                {"mode: subnet\n", "topology.yaml:1: nodes: at least one is needed"},
		"a field of the future":   {node + "policies: []\n", "topology.yaml:2: policies: unknown field; known here: mode,"},
		"a wrong service":         {node + "services:\n- {namespace: a, name: b, ports: [{port: 0}]}\n", "topology.yaml:3: services[0].ports[0].port: 0: from 1 to 65535"},
		"a wrong slice":           {node + "endpointSlices:\n- {namespace: a, name: b}\n", "topology.yaml:3: endpointSlices[0].serviceName: required"},
		"a foreign cluster IP":    {node + "services:\n- {namespace: a, name: b, clusterIP: 172.31.0.1, ports: [{port: 1}]}\n", "services[0].clusterIP: 172.31.0.1 is not an address of serviceNetwork 172.30.0.0/16"},
		"nobody's cluster IP":     {node + "services:\n- {namespace: a, name: b, clusterIP: 172.30.0.0, ports: [{port: 1}]}\n", "services[0].clusterIP: 172.30.0.0 is not an address of serviceNetwork"},
		"a cluster IP twice":      {node + "services:\n- {namespace: a, name: b, clusterIP: 172.30.0.1, ports: [{port: 1}]}\n- {namespace: a, name: c, clusterIP: 172.30.0.1, ports: [{port: 1}]}\n", "topology.yaml:4: services[1].clusterIP: 172.30.0.1 belongs to service a/b already"},
		"a port of no node":       {node + "services:\n- {namespace: a, name: b, type: NodePort, ports: [{port: 1, nodePort: 80}]}\n", "services[0].ports[0].nodePort: 80: from 30000 to 32767"},
		"a node port twice":       {node + "services:\n- {namespace: a, name: b, type: NodePort, ports: [{port: 1, nodePort: 30080}]}\n- {namespace: a, name: c, type: NodePort, ports: [{port: 1, nodePort: 30080}]}\n", "services[1].ports[0].nodePort: node port 30080 belongs to service a/b already"},
		"an address of no pool":   {node + "services:\n- {namespace: a, name: b, type: LoadBalancer, loadBalancerIP: 192.0.2.1, ports: [{port: 1}]}\n", "services[0].loadBalancerIP: 192.0.2.1 is not an address of loadBalancerIPs 198.51.100.0/24"},
		"an engine of nobody's":   {node + "serviceEngine: ipvs\n", `topology.yaml:2: serviceEngine: "ipvs" is neither iptables nor nftables`},
		"a node's wrong engine":   {"nodes: [{name: n1, serviceEngine: x}]\n", `nodes[0].serviceEngine: "x" is neither iptables nor nftables`},
		"a zone that is none":     {"nodes: [{name: n1, zone: -}]\n", "nodes[0].zone: a label's value has"},
		"an overlapping pool":     {node + "loadBalancerIPs: 10.128.1.0/24\n", "loadBalancerIPs: 10.128.1.0/24 overlaps 10.128.0.0/14 of clusterNetworks[0].cidr"},
		"a node called servicelb": {"nodes: [{name: servicelb}]\n", `"servicelb" is the name of a control service`},
		"a mode that is none":     {node + "mode: flat\n", `topology.yaml:2: mode: "flat" is none of multitenant, subnet, networkpolicy, combined`},
		"a policy without name":   {node + "networkPolicies: [{kind: NetworkPolicy}]\n", "networkPolicies[0]: kind and metadata.name are required"},
		"a policy twice":          {node + "networkPolicies: [{kind: A, metadata: {name: a}}, {kind: A, metadata: {name: a}}]\n", "networkPolicies[0] is A a already"},
		"a datapath that is none": {node + "datapath: dpdk\n", `topology.yaml:2: datapath: "dpdk" is none of system, netdev, auto`},
		"a wrong address":         {"nodes:\n  - {name: n1, ip: 192.168.108.300}\n", "topology.yaml:2: nodes[0].ip:"},
		"a foreign address":       {"nodes:\n  - {name: n1, ip: 10.0.0.1}\n", "topology.yaml:2: nodes[0].ip: 10.0.0.1 is not an address of the underlay 192.168.108.0/24"},
		"the broadcast address":   {"nodes:\n  - {name: n1, ip: 192.168.108.255}\n", "is the network or the broadcast address"},
		"an address twice":        {"nodes:\n  - {name: n1, ip: 192.168.108.11}\n  - {name: n2, ip: 192.168.108.11}\n", "topology.yaml:3: nodes[1].ip: 192.168.108.11 belongs to node n1 already"},
		"a name twice":            {"nodes:\n  - {name: n1, ip: 192.168.108.11}\n  - {name: n1, ip: 192.168.108.12}\n", `topology.yaml:3: nodes[1].name: "n1" comes twice`},
		"a name of a service":     {"nodes:\n  - {name: ipam, ip: 192.168.108.11}\n", "is the name of a control service"},
		"a name in capitals":      {"nodes:\n  - {name: N1, ip: 192.168.108.11}\n", "is not a DNS-1123 subdomain"},
		"a subnet of another length": {"nodes:\n  - {name: n1, ip: 192.168.108.11, subnet: 10.129.0.0/24}\n",
			"topology.yaml:2: nodes[0].subnet: 10.129.0.0/24 is not a node's subnet of any of clusterNetworks"},
		"overlapping networks":    {node + "serviceNetwork: 10.130.0.0/16\n", "topology.yaml:2: serviceNetwork: 10.130.0.0/16 overlaps 10.128.0.0/14 of clusterNetworks[0].cidr"},
		"host bits":               {node + "serviceNetwork: 172.30.0.1/16\n", "did you mean 172.30.0.0/16?"},
		"no cluster networks":     {node + "clusterNetworks: []\n", "topology.yaml:2: clusterNetworks: at least one is needed"},
		"too many host bits":      {node + "clusterNetworks: [{cidr: 10.128.0.0/22, hostSubnetLength: 11}]\n", "11 host bits do not fit into 10.128.0.0/22"},
		"IPv6":                    {node + "serviceNetwork: fd00::/64\n", "is not IPv4"},
		"replicas of none":        {node + "replicas: {ipam: 0}\n", "topology.yaml:2: replicas.ipam: 0: from 1 to 9"},
		"two NATS servers":        {node + "replicas: {nats: 2}\n", "replicas.nats: 2: a NATS cluster has 1, 3 or 5 servers"},
		"a reserved VNID":         {node + "namespaces: [{name: shop, vnid: 9}]\n", "namespaces[0].vnid: 9: 0, 1, or from 10 to 16777215"},
		"a VNID twice":            {node + "namespaces: [{name: a, vnid: 10}, {name: b, vnid: 10}]\n", "belongs to namespace a already"},
		"default with a VNID":     {node + "namespaces: [{name: default, vnid: 10}]\n", "namespace default is global"},
		"a router's network":      {node + "namespaces: [{name: a, egressRouters: [10.9.0.0/16, 192.168.108.1/24]}]\n", "namespaces[0].egressRouters[0]: 10.9.0.0/16 has no address of the underlay"},
		"multicast of nobody":     {"mode: subnet\n" + node + "namespaces: [{name: a, multicast: true}]\n", "topology.yaml:3: namespaces[0].multicast: there is no multicast in subnet mode"},
		"a wrong label":           {node + "namespaces: [{name: a, labels: {\"a b\": c}}]\n", "a label's name has from 1 to 63"},
		"a pod nowhere":           {node + "pods: [{namespace: a, name: b, node: n2}]\n", `topology.yaml:2: pods[0].node: there is no node "n2"`},
		"a pod without agent":     {"nodes: [{name: n1, withoutAgent: true}]\npods: [{namespace: a, name: b, node: n1}]\n", "topology.yaml:2: pods[0].node: node n1 begins without an agent"},
		"a pod twice":             {node + "pods: [{namespace: a, name: b, node: n1}, {namespace: a, name: b, node: n1}]\n", "there are two pods a/b"},
		"a pod of another node":   {node + "pods: [{namespace: a, name: b, node: n1, ip: 10.130.0.2}]\n", "is not an address of node n1, whose subnet is 10.129.0.0/23"},
		"a container port's name": {node + "pods: [{namespace: a, name: b, node: n1, ports: [{name: HTTP, containerPort: 80}]}]\n", `topology.yaml:2: pods[0].ports[0].name: "HTTP" is not the name of a port`},
		"a container port of 0":   {node + "pods: [{namespace: a, name: b, node: n1, ports: [{name: a, containerPort: 1}, {name: http}]}]\n", "pods[0].ports[1].containerPort: 0: from 1 to 65535"},
		"a port's protocol":       {node + "pods: [{namespace: a, name: b, node: n1, ports: [{containerPort: 80, protocol: tcp}]}]\n", `pods[0].ports[0].protocol: "tcp" is not one of TCP, UDP, SCTP`},
		"a host port too large":   {node + "pods: [{namespace: a, name: b, node: n1, ports: [{containerPort: 80, hostPort: 70000}]}]\n", "topology.yaml:2: pods[0].ports[0].hostPort: 70000: from 1 to 65535"},
		"a host port twice":       {node + "pods: [{namespace: a, name: b, node: n1, ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80, protocol: TCP}]}]\n", "pods[0].ports[1].hostPort: port 80 of node n1 leads to pod a/b already"},
		"a host IP of nothing":    {node + "pods: [{namespace: a, name: b, node: n1, ports: [{containerPort: 80, hostIP: 192.0.2.1}]}]\n", "pods[0].ports[0].hostIP: 192.0.2.1: there is no hostPort that could be on it"},
		"a host IP of IPv6":       {node + "pods: [{namespace: a, name: b, node: n1, ports: [{containerPort: 80, hostPort: 80, hostIP: \"::1\"}]}]\n", "pods[0].ports[0].hostIP: ::1 is not an IPv4 address"},
		"a reserved port":         {node + "pods: [{namespace: a, name: b, node: n1, ofport: 2}]\n", "pods[0].ofport: 2: from 3 to 65279"},
		"a port twice":            {node + "pods: [{namespace: a, name: b, node: n1, ofport: 3}, {namespace: a, name: c, node: n1, ofport: 3}]\n", "port 3 of node n1 belongs to pod a/b already"},
		"GRE with a port":         {node + "tunnel: {type: gre, port: 5}\n", "tunnel.port: GRE has no ports"},
		"egress in subnet mode":   {node + "mode: subnet\nnamespaces: [{name: a, egressIPs: [192.168.108.200]}]\n", "topology.yaml:3: namespaces[0].egressIPs: in subnet mode nobody can tell whose packet leaves"},
		"an egress IP elsewhere":  {node + "namespaces: [{name: a, egressIPs: [192.0.2.1]}]\n", "topology.yaml:2: namespaces[0].egressIPs[0]: 192.0.2.1 is not an address of the underlay 192.168.108.0/24"},
		"a node's address as one": {node + "namespaces: [{name: a, egressIPs: [192.168.108.11]}]\n", "namespaces[0].egressIPs[0]: 192.168.108.11 belongs to node n1"},
		"a broadcast as one":      {node + "namespaces: [{name: a, egressIPs: [192.168.108.255]}]\n", "is the network or the broadcast address of"},
		"an egress IP of IPv6":    {node + "namespaces: [{name: a, egressIPs: [\"fd00::1\"]}]\n", "fd00::1 is not IPv4"},
		"an egress IP twice":      {node + "namespaces: [{name: a, egressIPs: [192.168.108.200]}, {name: b, podEgress: [{name: c, podSelector: {d: e}, egressIPs: [192.168.108.200]}]}]\n", "namespaces[1].podEgress[0].egressIPs[0]: 192.168.108.200 belongs to namespace a already"},
		"a selection of all":      {node + "namespaces: [{name: a, podEgress: [{name: b, egressIPs: [192.168.108.200]}]}]\n", "namespaces[0].podEgress[0].podSelector: required"},
		"a selection's bad name":  {node + "namespaces: [{name: a, podEgress: [{name: default, podSelector: {d: e}, egressIPs: [192.168.108.200]}]}]\n", `namespaces[0].podEgress[0].name: "default" means the pods that no other selection takes`},
		"a selection to nowhere":  {node + "namespaces: [{name: a, podEgress: [{name: b, podSelector: {d: e}}]}]\n", "namespaces[0].podEgress[0].egressIPs: required"},
		"a host's IP twice":       {"nodes: [{name: n1, egressIPs: [192.168.108.200, 192.168.108.200]}]\n", "topology.yaml:1: nodes[0].egressIPs[1]: 192.168.108.200 comes twice"},
		"a range elsewhere":       {"nodes: [{name: n1, egressCIDRs: [192.0.2.0/24]}]\n", "nodes[0].egressCIDRs[0]: 192.0.2.0/24 has no address of the underlay"},
		"a range with host bits":  {"nodes: [{name: n1, egressCIDRs: [192.168.108.193/27]}]\n", "did you mean 192.168.108.192/27?"},
		"an underlay too small":   {"underlay: 10.0.0.0/29\nnodes: [{name: a, ip: 10.0.0.1}, {name: b, ip: 10.0.0.2}, {name: c, ip: 10.0.0.3}, {name: d, ip: 10.0.0.4}]\nreplicas: {ipam: 2}\n", "topology.yaml:1: underlay: 10.0.0.0/29 is too small"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("topology.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to contain %q", err, c.want)
			}
		})
	}
}

func TestAllProblemsAreNamedAtOnce(t *testing.T) {
	_, err := Parse("t", []byte("mode: x\nnodes:\n  - {name: N1}\n  - {name: n2, ip: 192.168.108.2, colour: red}\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want three problems", err)
	}
}

func TestEgressIPsAreGivenToNobodyElse(t *testing.T) {
	got := parse(t, `
nodes: [{name: n1, egressIPs: [192.168.108.11], egressCIDRs: [192.168.108.128/25], egressCapacity: 4}, {name: n2}]
namespaces:
- name: red
  egressIPs: [192.168.108.12, 192.168.108.1]
  podEgress: [{name: web, podSelector: {app: web}, egressIPs: [192.168.108.254]}]
`)
	if a, b := got.Nodes[0].IP.String(), got.Nodes[1].IP.String(); a != "192.168.108.13" || b != "192.168.108.14" {
		t.Errorf("the nodes have %s and %s", a, b)
	}
	if outside, control := got.Outside[0].IP.String(), got.Control[0].String(); outside != "192.168.108.2" || control != "192.168.108.253" {
		t.Errorf("the host outside has %s, the control host %s", outside, control)
	}
	want := &egressv1.NetNamespaceEgress{Namespace: "red", EgressIps: []string{"192.168.108.12", "192.168.108.1"}, Pods: []*egressv1.PodEgress{
		{Name: "web", PodSelector: map[string]string{"app": "web"}, EgressIps: []string{"192.168.108.254"}},
	}}
	if wish := got.Namespaces[0].Egress(); !proto.Equal(wish, want) {
		t.Errorf("the namespace wants %v, want %v", wish, want)
	}
	offer := got.Nodes[0].Egress()
	if offer.GetNode() != "n1" || offer.GetEgressCidrs()[0] != "192.168.108.128/25" || offer.GetCapacity() != 4 || got.Nodes[1].Egress() != nil {
		t.Errorf("the nodes offer %v and %v", offer, got.Nodes[1].Egress())
	}
}

func TestPlainNamesNodesInOrderAndRefusesTooMany(t *testing.T) {
	for _, n := range []int{3, maxPlain} {
		text, err := Plain(n)
		if err != nil {
			t.Fatal(err)
		}
		got := parse(t, string(text))
		if len(got.Nodes) != n || got.Nodes[2].Name != "node3" || got.Nodes[2].IP.String() != "192.168.108.13" {
			t.Errorf("got %d nodes, the third %+v", len(got.Nodes), got.Nodes[2])
		}
	}
	for _, n := range []int{0, -1, maxPlain + 1} {
		if _, err := Plain(n); err == nil {
			t.Errorf("%d nodes were not refused", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("nodes: [{name: node1, ip: 192.168.108.11}]\nreplicas: {nats: 3}"))
	f.Add([]byte("underlay: 255.255.255.0/24\nnodes: [{name: a, ip: 255.255.255.1}]"))
	f.Add([]byte("underlay: 0.0.0.0/8\nnodes: [{name: a, ip: 0.0.0.1}]\noutside: [{name: b, ip: 0.0.0.2}]"))
	f.Add([]byte("nodes: [{name: a}]\nservices: [{namespace: a, name: b, clusterIP: 172.30.0.1, ports: [{port: 80, targetPort: 8080}]}]"))
	f.Add([]byte("nodes: [{name: a}]\npods: [{namespace: a, name: b, node: a, ports: [{name: http, containerPort: 80, protocol: SCTP}]}]"))
	f.Add([]byte("nodes: [{name: a, egressIPs: [192.168.108.200], egressCIDRs: [192.168.108.0/25], egressCapacity: 3}]\nnamespaces: [{name: b, egressIPs: [192.168.108.1], podEgress: [{name: c, podSelector: {d: e}, egressIPs: [192.168.108.2]}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		topology, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		owners := map[netip.Addr]bool{}
		claim := func(addr netip.Addr) {
			if owners[addr] || !topology.Underlay.Contains(addr) {
				t.Errorf("address %s is given twice or is not of the underlay %s", addr, topology.Underlay)
			}
			owners[addr] = true
		}
		for _, node := range topology.Nodes {
			claim(node.IP)
		}
		for _, host := range topology.Outside {
			claim(host.IP)
		}
		for _, addr := range topology.Control {
			claim(addr)
		}
		for ip := range topology.egressIPs() {
			if owners[ip] || !topology.Underlay.Contains(ip) {
				t.Errorf("egress IP %s is somebody's or is not of the underlay %s", ip, topology.Underlay)
			}
		}
	})
}

const follows = "nodes: [{name: node1, ip: 192.168.108.11}]\nkubernetes: {kubeconfig: /etc/admin}\n"

func TestATopologyOnKubernetesHasMachinesAndUsers(t *testing.T) {
	got := parse(t, follows+"replicas: {nats: 3}\nserviceEngine: nftables\n").Kubeconfigs()
	for _, service := range []string{"ipam", "tenancy", "servicelb", "egress"} {
		if got[service] != "/etc/admin" {
			t.Errorf("%s is %q, want the user of all", service, got[service])
		}
	}
	got = parse(t, "nodes: [{name: a, kubeconfig: /a}, {name: b}]\nkubernetes: {services: {ipam: /i, tenancy: /t, servicelb: /s, egress: /e}}\n").Kubeconfigs()
	if len(got) != 5 || got["ipam"] != "/i" || got["egress"] != "/e" || got["a"] != "/a" {
		t.Errorf("got users %v", got)
	}
}

func TestWhatObjectsOfKubernetesSayIsRefusedInATopology(t *testing.T) {
	for text, want := range map[string]string{
		follows + "mode: multitenant\n":                                                  "topology.yaml:3: mode: with kubernetes this is not the topology's to say, but that of objects: pluginName of the ClusterNetwork",
		follows + "clusterNetworks: []\n":                                                "topology.yaml:3: clusterNetworks: with kubernetes",
		follows + "serviceNetwork: 172.30.0.0/16\n":                                      "topology.yaml:3: serviceNetwork: with kubernetes",
		follows + "tunnel: {type: vxlan}\n":                                              "topology.yaml:3: tunnel: with kubernetes",
		follows + "mtu: 1450\n":                                                          "topology.yaml:3: mtu: with kubernetes",
		follows + "namespaces: []\n":                                                     "topology.yaml:3: namespaces: with kubernetes",
		follows + "pods: []\n":                                                           "topology.yaml:3: pods: with kubernetes",
		follows + "services: []\n":                                                       "topology.yaml:3: services: with kubernetes",
		follows + "endpointSlices: []\n":                                                 "topology.yaml:3: endpointSlices: with kubernetes",
		follows + "networkPolicies: []\n":                                                "topology.yaml:3: networkPolicies: with kubernetes",
		follows + "egressFirewalls: []\n":                                                "topology.yaml:3: egressFirewalls: with kubernetes",
		"kubernetes: {kubeconfig: /a}\nnodes: [{name: a, subnet: 10.128.0.0/23}]\n":      "topology.yaml:2: nodes[0].subnet: with kubernetes",
		"kubernetes: {kubeconfig: /a}\nnodes: [{name: a, egressIPs: [192.168.108.9]}]\n": "topology.yaml:2: nodes[0].egressIPs: with kubernetes",
		"kubernetes: {kubeconfig: /a}\nnodes: [{name: a, egressCIDRs: []}]\n":            "topology.yaml:2: nodes[0].egressCIDRs: with kubernetes",
		"kubernetes: {kubeconfig: /a}\nnodes: [{name: a, egressCapacity: 1}]\n":          "topology.yaml:2: nodes[0].egressCapacity: with kubernetes `damask patch hostsubnet` sets it",
		"kubernetes: {}\nnodes: [{name: a}]\n":                                           "topology.yaml:1: kubernetes.kubeconfig: required",
		"kubernetes: {kubeconfig: admin}\nnodes: [{name: a}]\n":                          `topology.yaml:1: kubernetes.kubeconfig: "admin" is not an absolute path`,
		"kubernetes: {services: {ipam: /a}}\nnodes: [{name: a}]\n":                       "topology.yaml:1: kubernetes.kubeconfig: required",
		"kubernetes: {kubeconfig: /a, services: {nats: /b}}\nnodes: [{name: a}]\n":       "topology.yaml:1: kubernetes.services.nats: the control services that follow objects are",
		"nodes: [{name: a, kubeconfig: /a}]\n":                                           "topology.yaml:1: nodes[0].kubeconfig: is given, and kubernetes is not",
		"kubernetes: {kubeconfig: /a}\nnodes: [{name: a, kubeconfig: b}]\n":              `topology.yaml:2: nodes[0].kubeconfig: "b" is not an absolute path`,
		"kubernetes: {kubeconfig: /a, services: {ipam: b}}\nnodes: [{name: a}]\n":        `topology.yaml:1: kubernetes.services.ipam: "b" is not an absolute path`,
	} {
		if _, err := Parse("topology.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %s", text, err, want)
		}
	}
}
