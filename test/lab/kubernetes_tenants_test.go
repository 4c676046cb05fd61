package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const changeNetwork = "pod.network.openshift.io/multitenant.change-network"

func TestOnKubernetesFromANamespaceToAPacket(t *testing.T) {
	k := upOnKubernetes(t, 3, "{nats: 1}")
	t.Run("nodes have HostSubnets", func(t *testing.T) { k.in(t).wantHostSubnets() })
	t.Run("agents say that their Nodes can have pods", func(t *testing.T) { k.in(t).wantNodesReady() })

	begin := time.Now()
	k.kubectl("create", "namespace", "a")
	vnid := map[string]int{"a": k.netid("a")}
	t.Logf("namespace a has VNID %d %s after kubectl create began", vnid["a"], since(begin))
	k.aPod("a/one", "node1")
	k.aPod("a/two", "node2")
	k.becomes(begin, "from the namespace to a packet", "a/one", "a/two", true)
	k.kubectl("create", "namespace", "b")
	vnid["b"] = k.netid("b")
	k.aPod("b/one", "node1")
	k.aPod("b/two", "node3")
	t.Run("NetNamespaces are shown as ever", func(t *testing.T) { k.in(t).wantNetNamespaces(vnid) })
	t.Run("isolated", func(t *testing.T) {
		k.in(t).wantPairs(vnid)
		for _, node := range []string{"node1", "node2", "node3"} {
			k.in(t).wantFlowsFromScratch(t, node)
		}
	})
	t.Run("annotations move namespaces", func(t *testing.T) { k.in(t).wantMoves(vnid) })
	t.Run("a pod that is deleted leaves its node", func(t *testing.T) {
		k := k.in(t)
		delete(k.pods, "b/two")
		k.kubectl("delete", "pod", "--namespace=b", "two", "--timeout=60s")
		if out, _ := k.try("lab", "status", "--name", k.name); strings.Contains(out, "b/two") {
			t.Errorf("the lab has it still:\n%s", out)
		}
		k.wantRegistered(t, "b/two", false)
	})
	t.Run("a namespace that is deleted leaves nothing", func(t *testing.T) { k.in(t).wantGone("b", vnid["b"]) })
}

// netid answers the VNID that a namespace gets.
func (k *onKubernetes) netid(namespace string) int {
	k.t.Helper()
	k.wait("", "netnamespace/"+namespace)
	number, err := strconv.Atoi(k.field("netnamespace/"+namespace, ".netid"))
	if err != nil {
		k.t.Fatal(err)
	}
	return number
}

// observed is what kubectl showed on a cluster of the ancestor.
func observed(t *testing.T) (columns map[string][]string) {
	t.Helper()
	var node struct {
		Objects struct {
			HostSubnet   struct{ Columns []string } `yaml:"hostsubnet"`
			NetNamespace struct{ Columns []string } `yaml:"netnamespace"`
		}
	}
	text, err := os.ReadFile("../observed/node.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &node)
	}
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]string{"hostsubnets": node.Objects.HostSubnet.Columns, "netnamespaces": node.Objects.NetNamespace.Columns}
}

// wantTable compares what kubectl shows of all objects of a kind: the header, and the
// beginnings of rows.
func (k *onKubernetes) wantTable(kind string, rows ...[]string) {
	k.t.Helper()
	header, rest, _ := strings.Cut(k.kubectl("get", kind), "\n")
	if want := strings.Join(observed(k.t)[kind], " "); want == "" || strings.Join(strings.Fields(header), " ") != want {
		k.t.Errorf("kubectl get %s has the columns %q, want %q", kind, header, want)
	}
	var got [][]string
	for line := range strings.Lines(rest) {
		got = append(got, strings.Fields(line))
	}
	for _, row := range rows {
		if !slices.ContainsFunc(got, func(r []string) bool { return len(r) >= len(row) && slices.Equal(r[:len(row)], row) }) {
			k.t.Errorf("kubectl get %s has no row %q:\n%s", kind, row, rest)
		}
	}
}

// wantHostSubnets compares the objects with what the lab's nodes have.
func (k *onKubernetes) wantHostSubnets() {
	k.t.Helper()
	var rows [][]string
	for _, n := range k.known().GetNodes() {
		k.wait("", "hostsubnet/"+n.GetName(), "condition=Accepted")
		rows = append(rows, []string{n.GetName(), n.GetName(), n.GetIp(), n.GetSubnet()})
	}
	k.wantTable("hostsubnets", rows...)
}

// wantNodesReady waits until each agent has said so of its Node, and taken the taint off.
func (k *onKubernetes) wantNodesReady() {
	k.t.Helper()
	for name := range k.nodes {
		k.wait("", "node/"+name, "condition=NetworkUnavailable=false")
		k.eventually(k.t, "the taint is taken off "+name, func() bool {
			return !strings.Contains(k.field("node/"+name, ".spec.taints"), notReady)
		})
	}
}

func (k *onKubernetes) wantNetNamespaces(vnid map[string]int) {
	k.t.Helper()
	rows := [][]string{{"default", "0"}}
	for name, number := range vnid {
		rows = append(rows, []string{name, fmt.Sprint(number)})
	}
	k.wait("", "netnamespace/default")
	k.wantTable("netnamespaces", rows...)
}

// wantMoves joins, isolates and makes global as the ancestor's annotation says, and tries
// every pair each time.
func (k *onKubernetes) wantMoves(vnid map[string]int) {
	for _, step := range []struct {
		change string
		talk   bool
		netid  func(got int) bool
	}{
		{"join:a", true, func(got int) bool { return got == vnid["a"] }},
		{"isolate", false, func(got int) bool { return got != vnid["a"] && got >= 10 }},
		{"global", true, func(got int) bool { return got == 0 }},
		{"isolate", false, func(got int) bool { return got != vnid["a"] && got >= 10 }},
	} {
		begin := time.Now()
		k.kubectl("annotate", "--overwrite", "netnamespace", "b", changeNetwork+"="+step.change)
		k.becomes(begin, step.change, "a/two", "b/one", step.talk)
		k.eventually(k.t, "the annotation is taken off", func() bool {
			return !strings.Contains(k.field("netnamespace/b", ".metadata.annotations"), changeNetwork)
		})
		if vnid["b"] = k.netid("b"); !step.netid(vnid["b"]) {
			k.t.Errorf("after %s b has netid %d, and a %d", step.change, vnid["b"], vnid["a"])
		}
		k.wantPairs(vnid)
	}
}

// wantGone deletes a namespace with its pods, and looks for what might be left of it.
func (k *onKubernetes) wantGone(namespace string, vnid int) {
	k.t.Helper()
	needle := fmt.Sprintf("0x%x", vnid)
	var hosts []string
	for name := range k.nodes {
		if slices.ContainsFunc(k.flowLines(name), hasNumber(needle)) {
			hosts = append(hosts, name)
		}
	}
	if len(hosts) == 0 {
		k.t.Errorf("no node has a flow with VNID %s before", needle)
	}
	begin := time.Now()
	k.kubectl("delete", "pods", "--all", "--namespace="+namespace, "--timeout=60s")
	k.api.DeleteNamespace(k.t, namespace)
	k.kubectl("wait", "netnamespace/"+namespace, "--for=delete", "--timeout=60s")
	k.t.Logf("NetNamespace %s was gone %s after kubectl delete began", namespace, since(begin))
	for _, name := range hosts {
		k.eventually(k.t, fmt.Sprintf("%s has no flow with VNID %s", name, needle), func() bool {
			return !slices.ContainsFunc(k.flowLines(name), hasNumber(needle))
		})
	}
	var list struct {
		Items []struct {
			Name  string
			Netid int
		}
	}
	if err := json.Unmarshal([]byte(k.ctl("get", "netnamespaces", "-o", "json")), &list); err != nil {
		k.t.Fatal(err)
	}
	for _, n := range list.Items {
		if n.Name == namespace || n.Netid == vnid {
			k.t.Errorf("the store has %+v", n)
		}
	}
}

// hasNumber tells whether a flow names a number, and not one that begins with it.
func hasNumber(number string) func(flow string) bool {
	return func(flow string) bool {
		return slices.Contains(strings.FieldsFunc(flow, func(r rune) bool {
			return !strings.ContainsRune("0123456789abcdefx", r)
		}), number)
	}
}
