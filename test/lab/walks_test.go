package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/test/traces"
)

// observedVNID is one that the observed cluster had.
const observedVNID = 272037

func TestObservedWalksHoldOnTheNodesOfALab(t *testing.T) {
	walks, err := traces.Load("../observed/traces.yaml")
	if err != nil {
		t.Fatal(err)
	}
	judged, err := traces.Judged(walks)
	if err != nil {
		t.Fatal(err)
	}
	o := observedCluster(t, judged)
	var leaving []traces.Walk // by an egress IP, which the pods of the others do not have
	judged = slices.DeleteFunc(judged, func(w traces.Walk) bool {
		if w.Egress != nil {
			leaving = append(leaving, w)
		}
		return w.Egress != nil
	})
	c := up(t, o.topology())
	c.meetNeighbours()
	o.awaitServices(t, c)

	t.Run("multitenant", func(t *testing.T) {
		o.ask(t, c, judged, traces.Setting{Multitenant: true, VNID: observedVNID})
	})
	t.Run("multitenant, with an egress IP", func(t *testing.T) {
		if len(leaving) < 2 {
			t.Fatalf("only %d walks were seen with an egress IP", len(leaving))
		}
		infra, ip := o.nodes[leaving[0].Nodes[leaving[0].Egress.Node].Subnet], leaving[0].Egress.IP.String()
		c.ctl("patch", "hostsubnet", infra, "-p", fmt.Sprintf(`{"egressIPs": [%q]}`, ip))
		c.eventually(t, "the nodes around "+infra+" trust it", func() bool {
			return strings.Contains(c.ctl("patch", "netnamespace", "observed", "-p", fmt.Sprintf(`{"egressIPs": [%q]}`, ip)), "is hosted by node "+infra)
		})
		o.ask(t, c, leaving, traces.Setting{Multitenant: true, VNID: observedVNID, Userspace: userspace()})
		c.ctl("patch", "netnamespace", "observed", "-p", `{"egressIPs": []}`)
	})
	t.Run("multitenant, VNID 0", func(t *testing.T) {
		c.ctl("pod-network", "make-projects-global", "observed")
		o.ask(t, c, judged, traces.Setting{Multitenant: true})
	})
	t.Run("subnet", func(t *testing.T) {
		c.ctl("mode", "set", "subnet")
		o.ask(t, c, judged, traces.Setting{})
	})
}

// observedNodes are the nodes and pods of all walks, as one cluster. Nodes are
// told apart by their subnets: documents name them differently.
type observedNodes struct {
	nodes    map[netip.Prefix]string
	ips      map[netip.Prefix]netip.Addr
	pods     []string              // lines of the topology
	services map[netip.Addr]string // lines of the topology, by cluster IP
}

func observedCluster(t *testing.T, walks []traces.Walk) *observedNodes {
	t.Helper()
	o := &observedNodes{nodes: map[netip.Prefix]string{}, ips: map[netip.Prefix]netip.Addr{}, services: map[netip.Addr]string{}}
	seen := map[string]bool{}
	for _, w := range walks {
		for name, n := range w.Nodes {
			o.nodes[n.Subnet], o.ips[n.Subnet] = name, n.IP
		}
	}
	free := netip.MustParseAddr("192.168.108.201") // next to the observed addresses
	for _, w := range walks {
		site, err := w.Site(traces.Setting{})
		if err != nil {
			t.Fatal(err)
		}
		subnet := site.Node.Subnet
		if o.nodes[subnet] == "" {
			o.nodes[subnet], o.ips[subnet] = fmt.Sprintf("other%d", len(o.nodes)), free
			free = free.Next()
		}
		for name, p := range site.Pods {
			// Two nodes have a pod of the same name.
			line := fmt.Sprintf("- {namespace: observed, name: %s.%[2]s, node: %[2]s, ip: %[3]s, ofport: %[4]d}", name, o.nodes[subnet], p.IP, p.Port)
			if !seen[line] {
				seen[line] = true
				o.pods = append(o.pods, line)
			}
		}
		if (len(site.Services) > 0 || site.Egress != nil) && len(site.Pods) == 0 {
			// A node knows the VNIDs of its pods; the document does not show who asks.
			o.pods = append(o.pods, fmt.Sprintf("- {namespace: observed, name: client-%d, node: %s}", len(o.pods), o.nodes[subnet]))
		}
		for name, s := range site.Services {
			_, name, _ = strings.Cut(name, "/") // all of the namespace whose VNID is asked about
			o.services[s.ClusterIP] = fmt.Sprintf("- {namespace: observed, name: %s, clusterIP: %s, ports: [{port: %d}]}", name, s.ClusterIP, s.Port)
		}
	}
	return o
}

func (o *observedNodes) topology() string {
	text := fmt.Sprintf("mode: multitenant\nclusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]\nserviceNetwork: 172.30.0.0/16\nunderlay: 192.168.108.0/24\nnamespaces: [{name: observed, vnid: %d}]\nnodes:\n", observedVNID)
	for subnet, name := range o.nodes {
		text += fmt.Sprintf("- {name: %s, ip: %s, subnet: %s}\n", name, o.ips[subnet], subnet)
	}
	text += "pods:\n" + strings.Join(o.pods, "\n") + "\nservices:\n"
	for _, line := range o.services {
		text += line + "\n"
	}
	return text
}

// awaitServices returns when every node has the flows of every service: they come to a
// node as changes do, after the lab is up.
func (o *observedNodes) awaitServices(t *testing.T, c *cluster) {
	t.Helper()
	for _, node := range o.nodes {
		for ip := range o.services {
			c.eventually(t, "flows of service "+ip.String()+" on "+node, func() bool {
				return strings.Contains(c.exec(onNode(node), "ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", "table=60"), "nw_dst="+ip.String()+",tp_dst=")
			})
		}
	}
}

// ask puts every question to the node that its walk was seen on.
func (o *observedNodes) ask(t *testing.T, c *cluster, walks []traces.Walk, setting traces.Setting) {
	for _, w := range walks {
		if w.NotAsked(setting) != "" {
			continue
		}
		t.Run(w.Name, func(t *testing.T) {
			site, err := w.Site(setting)
			if err != nil {
				t.Fatal(err)
			}
			questions, err := w.Questions(setting)
			if err != nil {
				t.Fatal(err)
			}
			node := o.nodes[site.Node.Subnet]
			trace := func(_ context.Context, args ...string) (string, error) {
				out, err := c.command(onNode(node), append([]string{"ovs-appctl"}, args...)...).CombinedOutput()
				if err != nil {
					return "", fmt.Errorf("%w: %s", err, out)
				}
				return string(out), nil
			}
			for _, q := range questions {
				differences, err := q.Ask(t.Context(), trace)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range differences {
					t.Errorf("%s\n%s", strings.Join(q.Args, " "), d)
				}
			}
		})
	}
}

// meetNeighbours makes every node know the others on the underlay: a trace
// through a tunnel of the userspace datapath ends early without.
func (c *cluster) meetNeighbours() {
	c.t.Helper()
	nodes := c.refresh().GetNodes()
	for _, from := range nodes {
		var lines []string
		for _, to := range nodes {
			if to.GetName() != from.GetName() {
				lines = append(lines, fmt.Sprintf("icmp %s 56", to.GetIp()))
			}
		}
		wantAll(c.t, onNode(from.GetName()), c.check(onNode(from.GetName()), lines...))
	}
}
