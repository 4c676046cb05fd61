package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/cmd/damask/internal/openshift/openshifttest"
	"github.com/damask-sdn/damask/internal/kubetest"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

const (
	// rights has what each service may do in a cluster.
	rights = "../../../../deploy/kustomize/base/rbac/"
	// takeoverRole is what a person may do.
	takeoverRole = "../../../../deploy/kustomize/takeover/operator.yaml"
)

// old is a cluster of OpenShift SDN that is taken over: a real API server, Damask's services
// that follow it, and agents that come to life where a Node's label has them run.
type old struct {
	*testing.T
	*openshifttest.Sample
	live       *live
	file       string // for --config
	kubeconfig string // of a person with the role that is shipped, and no other

	mu     sync.Mutex
	agents map[string]*oldAgent
}

// oldAgent is what a test decides of a node's agent.
type oldAgent struct {
	waits string // why it is not ready, if it is asked; empty: it is ready when it was asked twice
	asked func() // called when the label has it run and it is asked
	times int
}

// newOld starts a cluster whose objects Damask's services have taken over.
func newOld(t *testing.T, size openshifttest.Size) *old {
	t.Helper()
	o := &old{T: t, Sample: openshifttest.Fill(t, kubetest.Start(t), size), live: newLive(t), agents: map[string]*oldAgent{}}
	o.live.rights = func(service string) string { return o.AsServiceAccount(t, rights+service+".yaml").Kubeconfig() }
	o.live.cluster.ServiceLB = []string{freeAddress()} // nobody asks it
	o.live.startServices(buildServices(t), "ipam", "tenancy", "egress")
	for _, name := range strings.Fields(o.Kubectl(t, "get", "hostsubnets", "-o", "name")) {
		o.agent(strings.TrimPrefix(name, "hostsubnet.network.openshift.io/"))
	}
	o.file = o.live.file(o.live.cluster)
	o.ApplyFiles(t, takeoverRole)
	o.Kubectl(t, "create", "clusterrolebinding", "takeover", "--clusterrole=damask-takeover", "--user=olga")
	o.kubeconfig = o.As(t, "olga").Kubeconfig()
	return o
}

// agent starts a node's agent. Without the label it is as if it were not there.
func (o *old) agent(node string) {
	o.Helper()
	a := &oldAgent{}
	o.agents[node] = a
	subnet := &ipamv1.HostSubnet{Name: node, HostIps: []string{"192.168.109.1"}, Subnets: []string{"10.130.0.0/23"}}
	o.live.startAgent(&agent{subnet: subnet, lagging: map[string]string{}, state: func() (string, error) {
		if o.label(node) != "damask" {
			return "", status.Error(codes.Unavailable, "the cluster runs no agent of Damask's here")
		}
		o.mu.Lock()
		a.times++
		asked, waits, first := a.asked, a.waits, a.times == 1
		o.mu.Unlock()
		if asked != nil {
			asked()
		}
		if waits == "" && first {
			waits = "the agent of OpenShift SDN is at work on this node"
		}
		return waits, nil
	}})
}

// decide changes what a node's agent does.
func (o *old) decide(node, waits string, asked func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.agents[node].waits, o.agents[node].asked = waits, asked
}

func (o *old) label(node string) string {
	out, err := o.TryKubectl("get", "node", node, "-o", `jsonpath={.metadata.labels.damask\.io/agent}`)
	if err != nil {
		return ""
	}
	return out
}

// sees expects a Node's label, whether it is cordoned, and whether for a takeover.
func (o *old) sees(node, want string) {
	o.Helper()
	const path = `jsonpath={.metadata.labels.damask\.io/agent} {.spec.unschedulable} {.metadata.annotations}`
	if got := strings.TrimSpace(o.Kubectl(o.T, "get", "node", node, "-o", path)); got != want {
		o.Errorf("node %s is %q, want %q", node, got, want)
	}
}

// damask runs a command against the cluster, and answers what it says.
func (o *old) damask(ctx context.Context, args ...string) (stdout, stderr string) {
	o.Helper()
	root := &cobra.Command{Use: "damask", SilenceErrors: true, SilenceUsage: true}
	AddCommands(root, nil)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(append(slices.Clone(args), "--kubeconfig", o.kubeconfig, "--config", o.file))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(&errs, err)
	}
	return out.String(), errs.String()
}

// says runs a command that must say all of it, in this order; "!" before the first text: on
// the way to failing.
func (o *old) says(ctx context.Context, command string, texts ...string) {
	o.Helper()
	out, errs := o.damask(ctx, strings.Fields(command)...)
	fails := len(texts) > 0 && texts[0] == "!"
	if fails != (errs != "") {
		o.Errorf("damask %s: fails %v\n%s%s", command, errs != "", out, errs)
	}
	rest := out + errs
	for _, text := range texts {
		if text == "!" {
			continue
		}
		_, after, found := strings.Cut(rest, text)
		if !found {
			o.Fatalf("damask %s does not say %q, or not there:\n%s%s", command, text, out, errs)
		}
		rest = after
	}
}

// settled waits until Damask has what the objects say.
func (o *old) settled() {
	o.Helper()
	for until := time.Now().Add(2 * time.Minute); ; {
		out, errs := o.damask(o.Context(), "adopt", "compare")
		if errs == "" {
			return
		}
		if time.Now().After(until) {
			o.Fatalf("Damask does not get what the objects say:\n%s%s", out, errs)
		}
	}
}

// TestOnKubernetesNodesAreTakenOver takes a cluster over, with all that may go wrong.
func TestOnKubernetesNodesAreTakenOver(t *testing.T) {
	o := newOld(t, openshifttest.Size{Nodes: 5, Namespaces: 300, Firewalls: 20, Policies: 100})
	o.settled()
	o.says(t.Context(), "adopt check", "infra.ocp.cn", "differs", "it hosts egress IPs")
	o.says(t.Context(), "adopt compare", "6 HostSubnets, ", " NetNamespaces, their egress IPs, 20 EgressNetworkPolicies, 100 NetworkPolicies\n")
	for _, step := range []struct {
		name string
		run  func(o *old)
	}{
		{"nothing begins while something would be lost", (*old).lost},
		{"nothing begins while Damask has something otherwise", (*old).otherwise},
		{"a dry run says the steps", (*old).dryRun},
		{"nodes come one after another, until one fails", (*old).oneFails},
		{"those that are named are taken over", (*old).named},
		{"an interrupt leaves what it says", (*old).interrupted},
		{"another run goes on, and uncordons what the one before cordoned", (*old).again},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			o.T = t
			step.run(o)
		}) {
			return
		}
	}
}

const n0, n1, n2, n3, n4, infra = "node0.ocp.cn", "node1.ocp.cn", "node2.ocp.cn", "node3.ocp.cn", "node4.ocp.cn", "infra.ocp.cn"

func (o *old) untouched() {
	o.Helper()
	for _, node := range []string{n0, n1, n2, n3, n4, infra} {
		o.sees(node, "")
	}
}

func (o *old) lost() {
	// The API server takes it; Damask does not, and check knows.
	o.Apply(o.T, `{apiVersion: network.openshift.io/v1, kind: EgressNetworkPolicy, metadata: {namespace: shop-99, name: odd}, spec: {egress: [{type: Deny, to: {cidrSelector: 10.0.0.1/8}}]}}`)
	o.says(o.Context(), "adopt nodes", "!", "EgressNetworkPolicy", "shop-99/odd", "has host bits", "not everything can be kept: 1 finding")
	o.says(o.Context(), "adopt compare", "!", "shop-99/odd", "is there", "as the objects say: 1 difference")
	o.untouched()
	for until := time.Now().Add(time.Minute); !strings.Contains(o.Kubectl(o.T, "get", "events", "-n", "shop-99"), "egressnetworkpolicy/odd"); {
		if time.Now().After(until) {
			o.Fatal("no event says that it was refused")
		}
	}
	o.Kubectl(o.T, "delete", "egressnetworkpolicies", "-n", "shop-99", "odd")
	o.settled()
}

func (o *old) otherwise() {
	file := o.file
	defer func() { o.file = file }()
	bare := o.live.cluster
	bare.Egress = nil // as who forgot it in the file
	o.file = o.live.file(bare)
	o.says(o.Context(), "adopt compare", "!", "EgressNetworkPolicy", "NetNamespace", "kube-public")
	o.untouched()
}

func (o *old) dryRun() {
	o.Kubectl(o.T, "cordon", n4)
	o.says(o.Context(), "adopt nodes --dry-run --cordon",
		"node infra.ocp.cn would be cordoned, given the label damask.io/agent=damask, waited for, uncordoned\n",
		"node node0.ocp.cn would be cordoned, ", "node node3.ocp.cn would be ",
		"node node4.ocp.cn would be given the label damask.io/agent=damask, waited for\n")
	o.says(o.Context(), "adopt nodes --dry-run nobody node9", "!", "there is no HostSubnet of node nobody", "there is no HostSubnet of node node9")
	o.sees(n4, "true")
	o.Kubectl(o.T, "uncordon", n4)
	o.untouched()
}

func (o *old) oneFails() {
	// While the first is taken over somebody gives the third to another agent.
	o.decide(infra, "", func() { o.Kubectl(o.T, "label", "node", n1, "damask.io/agent=other", "--overwrite") })
	o.Kubectl(o.T, "cordon", n0)
	o.says(o.Context(), "adopt nodes --cordon", "!",
		"node infra.ocp.cn has the label damask.io/agent=damask, and is cordoned\n",
		"node infra.ocp.cn waits: the agent of OpenShift SDN is at work on this node\n",
		"node infra.ocp.cn is Damask's, with 2 pods and 120 flows\n", "node infra.ocp.cn is uncordoned\n",
		"node node0.ocp.cn has the label damask.io/agent=damask, and stays cordoned, as it was\n", "node node0.ocp.cn is Damask's",
		`node node1.ocp.cn: its label damask.io/agent is "other"`, "node node1.ocp.cn was not changed\n",
		"  Damask's: infra.ocp.cn, node0.ocp.cn\n", "  not begun: node2.ocp.cn, node3.ocp.cn, node4.ocp.cn\n", "run the command again to go on")
	o.decide(infra, "", nil)
	o.sees(infra, "damask")
	o.sees(n0, "damask true")
	o.sees(n1, "other")
	o.sees(n2, "")
	o.Kubectl(o.T, "label", "node", n1, "damask.io/agent-")
	// And one whose agent cannot.
	const why = "port veth1 of sandbox x: the container runtime has noted nothing of it"
	o.decide(n1, why, nil)
	o.says(o.Context(), "adopt nodes --cordon --timeout 5s", "!",
		"node infra.ocp.cn is Damask's already\n", "node node0.ocp.cn is Damask's already\n", "node node1.ocp.cn waits: "+why+"\n",
		"node node1.ocp.cn: node node1.ocp.cn is not taken over: "+why+"\n",
		"  node node1.ocp.cn has the label damask.io/agent=damask, and is cordoned: its agent goes on with it\n")
	o.sees(n1, `damask true {"damask.io/cordoned-for-takeover":""}`)
	o.sees(n2, "")
}

func (o *old) named() {
	o.says(o.Context(), "adopt nodes node3.ocp.cn node2.ocp.cn", "node node2.ocp.cn has the label damask.io/agent=damask\n",
		"node node2.ocp.cn is Damask's", "node node3.ocp.cn is Damask's", "2 nodes taken over, 0 Damask's already, 0 left out\n")
	o.sees(n3, "damask")
	o.sees(n4, "")
}

func (o *old) interrupted() {
	// As who types it at a terminal; a second one would end this process.
	interrupt := sync.OnceFunc(func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			o.Error(err)
		}
	})
	o.decide(n4, "the VNID of namespace shop-1", interrupt)
	o.says(o.Context(), "adopt nodes --cordon node4.ocp.cn", "!", "node node4.ocp.cn: interrupted; node node4.ocp.cn is not taken over: ",
		"node node4.ocp.cn has the label damask.io/agent=damask, and is cordoned: its agent goes on with it")
	o.sees(n4, `damask true {"damask.io/cordoned-for-takeover":""}`)
}

func (o *old) again() {
	o.decide(n1, "", nil)
	o.says(o.Context(), "adopt nodes --dry-run", "node node1.ocp.cn is Damask's already\n", "node node1.ocp.cn would be uncordoned\n",
		"node node4.ocp.cn would be waited for, uncordoned\n")
	o.decide(n4, "", nil)
	o.Kubectl(o.T, "delete", "node", n3) // its machine is gone for good
	o.Kubectl(o.T, "wait", "hostsubnet/"+n3, "--for=delete", "--timeout=60s")
	// A host that is no Node of the cluster has a HostSubnet by somebody's hand.
	o.Apply(o.T, `{apiVersion: network.openshift.io/v1, kind: HostSubnet, metadata: {name: router}, host: router, hostIP: 192.168.109.200, subnet: 10.131.254.0/23}`)
	o.says(o.Context(), "adopt nodes", "node infra.ocp.cn is Damask's already\n", "node node1.ocp.cn is Damask's already\n", "node node1.ocp.cn is uncordoned\n",
		"node node4.ocp.cn is Damask's already\n", "node node4.ocp.cn is uncordoned\n", "node router is left out: there is no Node of that name\n",
		"0 nodes taken over, 5 Damask's already, 1 left out\n")
	o.sees(n0, "damask true")
	for _, node := range []string{infra, n1, n2, n4} {
		o.sees(node, "damask")
	}
}
