package lab

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// The table of behaviours: each combination of how a service is reached, protocol,
// traffic policy, affinity and position of the client, with a backend in every
// position. What should happen is written here as a model, apart from the engines.

const (
	// stickyConnections is how many connections say that a client stays with one backend.
	stickyConnections = 50
	// fewestConnections leave 15 to each of the four backends, which is what a chi-square
	// needs to mean anything.
	fewestConnections = 60
)

// tableConnections is how many connections say in what share backends are hit. Where the
// processor is emulated, DAMASK_CONNECTIONS asks for fewer.
func tableConnections(t *testing.T) int {
	t.Helper()
	text := os.Getenv("DAMASK_CONNECTIONS")
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < fewestConnections {
		t.Fatalf("DAMASK_CONNECTIONS is %q, want a number of at least %d", text, fewestConnections)
	}
	return n
}

// noSCTP tells why there can be no rows of SCTP; empty: there can.
func noSCTP() string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
	if err != nil {
		return fmt.Sprintf("only where the kernel has SCTP (make test-kernel), and here a socket of it is refused: %v", err)
	}
	_ = unix.Close(fd)
	return ""
}

// takenForTunnel is how many connections by UDP of a row may stay without an answer. A
// masqueraded one gets a port of its node by chance, one in 64512 times the tunnel's
// (4789): what comes back then is a tunnel packet for the userspace datapath, which
// reads it before the node's kernel does.
const takenForTunnel = 2

// chiSquare bounds what chance can do: it is exceeded once in a million times, by
// degrees of freedom.
var chiSquare = map[int]float64{0: 0, 1: 23.93, 2: 27.63, 3: 30.66}

// sorts are the services of the table. Each is reached in every way: a LoadBalancer
// has a cluster IP and node ports too.
var sorts = []sort{
	{"any", "Cluster", "None", 1}, {"any-sticky", "Cluster", "ClientIP", 2},
	{"local", "Local", "None", 3}, {"local-sticky", "Local", "ClientIP", 4},
}

type sort struct {
	name, policy, affinity string
	number                 int // the last part of its addresses and node port
}

// backendNodes says where the backends are: a pod on each node, node2 itself, and a host
// that is no node.
var backendNodes = map[string]string{"pod1": "node1", "pod2": "node2", "host2": "node2", "outside": ""}

func tableTopology(engine string) string {
	text := strings.Replace(`
mode: multitenant
clusterNetworks: [{cidr: 10.128.0.0/14, hostSubnetLength: 9}]
serviceNetwork: 172.30.0.0/16
serviceEngine: ENGINE
nodes: [{name: node1}, {name: node2}]
pods:
- {namespace: red, name: client1, node: node1}
- {namespace: red, name: client2, node: node2}
- {namespace: red, name: pod1, node: node1}
- {namespace: red, name: pod2, node: node2}
services:
`, "ENGINE", engine, 1)
	for _, s := range sorts {
		text += fmt.Sprintf("- {namespace: red, name: %[1]s, type: LoadBalancer, clusterIP: 172.30.0.%[2]d, externalIPs: [203.0.113.%[2]d], loadBalancerIP: 198.51.100.%[2]d,\n"+
			"  internalTrafficPolicy: %[3]s, externalTrafficPolicy: %[3]s, sessionAffinity: %[4]s,\n"+
			"  ports: [{name: tcp, port: 80, nodePort: %[5]d}, {name: udp, port: 80, nodePort: %[5]d, protocol: UDP}, {name: sctp, port: 80, nodePort: %[5]d, protocol: SCTP}]}\n",
			s.name, s.number, s.policy, s.affinity, 30000+s.number)
	}
	return text
}

func TestTableOfServiceBehaviours(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			c := up(t, tableTopology(engine))
			c.serveAll("8080", "red/pod1", "red/pod2")
			c.start(onNode("node2"), "serve", "8080", "host2")
			c.start(onOutside("outside"), "serve", "8080", "outside")
			c.exec(onOutside("outside"), "ip", "route", "replace", "203.0.113.0/24", "via", c.nodeIP("node2"))
			var text string
			for _, s := range sorts {
				text += strings.TrimPrefix(slice("red/"+s.name, 8080, atNode(c.podIP("red/pod1"), "node1"), atNode(c.podIP("red/pod2"), "node2"),
					atNode(c.nodeIP("node2"), "node2"), c.outsideIP("outside")), "endpointSlices:\n")
			}
			const two = "{name: udp, port: 8080, protocol: UDP}"
			c.apply(t, "endpointSlices:\n"+strings.ReplaceAll(text, two, two+", {name: sctp, port: 8080, protocol: SCTP}"))
			for _, protocol := range []string{"tcp", "udp", "sctp"} {
				t.Run(protocol, func(t *testing.T) {
					if why := noSCTP(); protocol == "sctp" && why != "" {
						t.Skip(why)
					}
					c.table(t, engine, protocol)
				})
			}
		})
	}
}

// table asks all rows of a protocol, and prints them.
func (c *cluster) table(t *testing.T, engine, protocol string) {
	t.Helper()
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "BY\tPROTOCOL\tPOLICY\tAFFINITY\tCLIENT\tANSWERS, AND WHOM THE BACKEND SAW")
	slowest := int64(0)
	for _, s := range sorts {
		for _, q := range c.asked(t, s, protocol) {
			slowest = max(slowest, q.got.Slowest)
			t.Run(fmt.Sprintf("%s, policy %s, affinity %s, from %s", q.way, s.policy, s.affinity, strings.ReplaceAll(q.from.String(), "/", " ")), func(t *testing.T) {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", q.way, protocol, s.policy, s.affinity, q.from, c.judge(t, s, q, protocol))
			})
		}
	}
	_ = w.Flush()
	t.Logf("figure: the slowest answer took %d ms", slowest/1000)
	t.Logf("engine %s, %d connections a row, %d where clients stay:\n%s", engine, tableConnections(t), stickyConnections, &out)
}

// question is a row of the table without the protocol.
type question struct {
	way  string
	from place
	addr string
	// entry is the node that gives the connection its backend, and client the address
	// that it sees there.
	entry, client string
	// inside: the entry node knows the client as a pod; own: as itself.
	inside, own bool
	got         shares
}

// asked are the questions to a service with their answers.
func (c *cluster) asked(t *testing.T, s sort, protocol string) []question {
	t.Helper()
	count, how := tableConnections(t), "count"
	if s.affinity != "None" {
		count, how = stickyConnections, "known"
	}
	all := c.questions(s)
	for rest := all; len(rest) > 0; {
		var addrs []string // that the next client asks
		for _, q := range rest {
			if q.from != rest[0].from {
				break
			}
			addrs = append(addrs, q.addr)
		}
		for i, got := range c.loadEach(t, rest[0].from, protocol, how, count, addrs...) {
			rest[i].got = got
		}
		rest = rest[len(addrs):]
	}
	return all
}

// questions are the ways from every client to a service.
func (c *cluster) questions(s sort) []question {
	var all []question
	nodePort := func(node string) string { return fmt.Sprintf("%s:%d", c.nodeIP(node), 30000+s.number) }
	for i, node := range []string{"node1", "node2"} {
		pod, other := fmt.Sprintf("red/client%d", i+1), []string{"node2", "node1"}[i]
		for _, q := range []question{
			{from: inPod(pod), client: c.podIP(pod), inside: true}, {from: onNode(node), client: c.nodeIP(node), own: true},
		} {
			for _, way := range []struct{ way, addr string }{
				{"external IP", fmt.Sprintf("203.0.113.%d:80", s.number)}, {"load balancer", fmt.Sprintf("198.51.100.%d:80", s.number)},
				{"node port of its node", nodePort(node)},
			} {
				q.way, q.addr, q.entry = way.way, way.addr, node
				all = append(all, q)
			}
			clusterIP := q
			clusterIP.way, clusterIP.addr = "cluster IP", fmt.Sprintf("172.30.0.%d:80", s.number)
			if q.own {
				clusterIP.client = c.gateway(node) // the route to services is by tun0
			}
			// Another node sees this one, as it would see any machine.
			away := question{way: "node port of another", from: q.from, addr: nodePort(other), entry: other, client: c.nodeIP(node)}
			all = append(all, clusterIP, away)
		}
	}
	outside := question{from: onOutside("outside"), client: c.outsideIP("outside")}
	for _, way := range []struct{ way, addr, entry string }{
		{"external IP", fmt.Sprintf("203.0.113.%d:80", s.number), "node2"}, {"load balancer", fmt.Sprintf("198.51.100.%d:80", s.number), "node1"},
		{"node port of node1", nodePort("node1"), "node1"}, {"node port of node2", nodePort("node2"), "node2"},
	} {
		outside.way, outside.addr, outside.entry = way.way, way.addr, way.entry
		all = append(all, outside)
	}
	return all
}

// expected answers which backends may answer, and whom each sees.
func (c *cluster) expected(s sort, q question) map[string]string {
	want := map[string]string{}
	internal := q.way == "cluster IP"
	// By an address for the outside, clients inside are served from everywhere.
	local := s.policy == "Local" && (internal || !q.inside && !q.own)
	// The answer must come back by the entry node: clients that the policy lets go to
	// other nodes are masqueraded, unless they are the entry node's own pods.
	masquerade := !internal && !local && !q.inside
	for backend, node := range backendNodes {
		if local && node != q.entry {
			continue
		}
		inside := q.inside || q.client == c.gateway(q.entry)
		switch {
		case backend == "host2" && q.entry == "node2" && !q.own:
			want[backend] = q.client // delivered on the spot
		case strings.HasPrefix(backend, "pod") && q.own && s.policy == "Local" && node != q.entry && !internal:
			want[backend] = c.nodeIP(q.entry) // by the node port of the node that has it
		case strings.HasPrefix(backend, "pod") && masquerade:
			want[backend] = c.gateway(q.entry)
		case !strings.HasPrefix(backend, "pod") && (masquerade || inside):
			want[backend] = c.nodeIP(q.entry)
		default:
			want[backend] = q.client
		}
	}
	return want
}

// judge compares a row with what is expected, and answers it in words.
func (c *cluster) judge(t *testing.T, s sort, q question, protocol string) string {
	t.Helper()
	want, got := c.expected(s, q), q.got
	row := fmt.Sprintf("%s %s, policy %s, affinity %s, from %s", q.way, protocol, s.policy, s.affinity, q.from)
	if lost := got.Errors[silence]; protocol == "udp" && lost > 0 && lost <= takenForTunnel {
		t.Logf("%s: %d got no answer", row, lost)
		delete(got.Errors, silence)
	}
	if len(got.Errors) > 0 {
		t.Errorf("%s: connections failed: %v", row, got.Errors)
	}
	var words []string
	for _, pair := range slices.Sorted(maps.Keys(got.Answers)) {
		backend, source, _ := strings.Cut(pair, " ")
		if want[backend] != source {
			t.Errorf("%s: %s saw %s, want %s", row, backend, c.whose(source), c.whose(want[backend]))
		}
		words = append(words, fmt.Sprintf("%s %d (%s)", backend, got.Answers[pair], c.whose(source)))
	}
	hit := got.by()
	if s.affinity != "None" {
		if len(hit) != 1 {
			t.Errorf("%s: the client did not stay with one backend: %v", row, hit)
		}
		return strings.Join(words, ", ")
	}
	share, sum := float64(tableConnections(t))/float64(len(want)), 0.0
	for backend := range want {
		sum += (float64(hit[backend]) - share) * (float64(hit[backend]) - share) / share
	}
	if limit := chiSquare[len(want)-1]; sum > limit {
		t.Errorf("%s: the shares are not even: %v, chi-square %.1f, at most %.1f", row, hit, sum, limit)
	}
	return strings.Join(words, ", ")
}

// whose names an address of the lab.
func (c *cluster) whose(addr string) string {
	names := map[string]string{c.outsideIP("outside"): "outside", "": "nobody"}
	for _, n := range c.known().GetNodes() {
		names[n.GetIp()], names[c.gateway(n.GetName())] = n.GetName(), "gateway of "+n.GetName()
	}
	for _, p := range c.known().GetPods() {
		names[p.GetIps()[0]] = p.GetName()
	}
	if name := names[addr]; name != "" {
		return name
	}
	return addr
}
