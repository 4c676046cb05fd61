package kube_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	apikube "github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kubetest"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/kube"
)

const (
	rules  = "../../../deploy/kustomize/base/rbac/nodeagent.yaml"
	policy = "../../../deploy/kustomize/base/nodeagent-own-node.yaml"
)

// registered is the taint that the API server gives every new Node.
const registered = "node.kubernetes.io/not-ready"

// patience bounds what a loaded machine may take.
const patience = time.Minute

// cluster is a real API server with what is shipped for agents.
type cluster struct {
	*testing.T
	*kubetest.Cluster
}

func newCluster(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	c := &cluster{t, kubetest.Start(t)}
	c.Apply(t, `{apiVersion: v1, kind: Namespace, metadata: {name: damask-system}}`)
	c.ApplyFiles(t, rules, policy)
	for _, node := range nodes {
		c.Apply(t, fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s}}", node))
		c.taint(node, registered+"-") // which the controller manager takes away
	}
	return c
}

// agent is an agent as far as Kubernetes sees it: how far it is, the test says.
type agent struct {
	c       *cluster
	adapter *kube.Adapter
	stop    func()

	mu     sync.Mutex
	ready  kube.Readiness
	zones  []string          // that the Node was said to be in, one after the other
	limits map[string]string // what pods were bounded to last
	asked  chan struct{}     // when the adapter asks how far it is
}

// start starts the agent of a node, with the token of a pod there.
func (c *cluster) start(node string, ready kube.Readiness) *agent {
	c.Helper()
	a := &agent{c: c, ready: ready, limits: map[string]string{}, asked: make(chan struct{}, 1)}
	user := c.WithToken(c.T, "damask-system", "damask-nodeagent", node)
	log := hclog.New(&hclog.LoggerOptions{Output: c.Output(), Level: hclog.Info})
	var err error
	if a.adapter, err = kube.New(apikube.Config{Enabled: true, Kubeconfig: user.Kubeconfig()}, kube.Node{Name: node, Ready: a.readiness, Zone: a.zone}, a.limit, log); err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.adapter.Run(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.Errorf("the adapter ended with %v", err)
		}
	})
	c.Cleanup(a.stop)
	return a
}

func (a *agent) readiness() kube.Readiness {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case a.asked <- struct{}{}:
	default:
	}
	return a.ready
}

func (a *agent) zone(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.zones) == 0 || a.zones[len(a.zones)-1] != name {
		a.zones = append(a.zones, name)
	}
}

func (a *agent) limit(_ context.Context, pod types.NamespacedName, uid types.UID, b *cniv1.Bandwidth) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limits[pod.String()+" "+string(uid)] = fmt.Sprintf("%d %d", b.GetIngressRate(), b.GetEgressRate())
	return nil
}

func (a *agent) becomes(ready kube.Readiness) {
	a.mu.Lock()
	a.ready = ready
	a.mu.Unlock()
	a.adapter.ReadinessChanged()
}

// settle returns when the adapter has done what there was to do: one object is reconciled by
// one worker, so whoever is asked for the second time has finished the first.
func (a *agent) settle() {
	a.c.Helper()
	select { // what was asked before
	case <-a.asked:
	default:
	}
	for range 2 {
		a.adapter.ReadinessChanged()
		select {
		case <-a.asked:
		case <-time.After(patience):
			a.c.Fatal("the adapter does not ask how far its node is")
		}
	}
}

func (c *cluster) node(name string) *corev1.Node {
	c.Helper()
	node := &corev1.Node{}
	if err := json.Unmarshal([]byte(c.Kubectl(c.T, "get", "node", name, "-o", "json")), node); err != nil {
		c.Fatal(err)
	}
	return node
}

func (c *cluster) condition(name string) corev1.NodeCondition {
	c.Helper()
	for _, condition := range c.node(name).Status.Conditions {
		if condition.Type == corev1.NodeNetworkUnavailable {
			return condition
		}
	}
	return corev1.NodeCondition{}
}

// await waits until the condition is so, and the node has these taints.
func (c *cluster) await(node, condition string, taints ...string) {
	c.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		has := c.condition(node)
		got := fmt.Sprintf("%s %s %s", has.Status, has.Reason, has.Message)
		var keys []string
		for _, taint := range c.node(node).Spec.Taints {
			keys = append(keys, taint.Key)
		}
		if got == condition && strings.Join(keys, " ") == strings.Join(taints, " ") {
			return
		}
		if time.Now().After(until) {
			c.Fatalf("%s has the condition %q and the taints %q, want %q and %q", node, got, keys, condition, taints)
		}
	}
}

func (c *cluster) taint(node string, taints ...string) {
	c.Helper()
	c.Kubectl(c.T, append([]string{"taint", "node", node, "--overwrite"}, taints...)...)
}

const available = "False DamaskIsReady Damask adds pods on this node"

func TestOnKubernetesANodeIsAvailableOnceItsAgentIsReady(t *testing.T) {
	c := newCluster(t, "n1", "n2")
	for _, node := range []string{"n1", "n2"} {
		c.taint(node, "damask.io/not-ready=:NoSchedule", "gpu=yes:NoSchedule")
	}
	a := c.start("n1", kube.Readiness{Missing: []string{"a subnet"}})
	c.await("n1", "True DamaskIsNotReady missing: a subnet", "damask.io/not-ready", "gpu")
	a.becomes(kube.Readiness{Missing: []string{"the VNID of namespace red"}})
	c.await("n1", "True DamaskIsNotReady missing: the VNID of namespace red", "damask.io/not-ready", "gpu")

	// The API server is away when the node becomes ready.
	c.StopServer()
	a.becomes(kube.Readiness{Been: true})
	c.StartServer(t)
	c.await("n1", available, "gpu")

	// What is so is not written again, and a node that works stays available.
	before := c.condition("n1")
	a.settle()
	a.becomes(kube.Readiness{Been: true, Missing: []string{"OVSDB"}})
	a.settle()
	a.stop()
	a = c.start("n1", kube.Readiness{Missing: []string{"a subnet"}})
	a.settle()
	if after := c.condition("n1"); after != before {
		t.Errorf("an agent that was started again made of %v %v", before, after)
	}
	// A taint that comes back, and a condition that somebody else writes, go once it is ready.
	c.taint("n1", "damask.io/not-ready=:NoExecute")
	c.Kubectl(t, "patch", "node", "n1", "--subresource=status", "--type=strategic", "-p",
		`{"status": {"conditions": [{"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated", "message": "no route"}]}}`)
	a.becomes(kube.Readiness{Been: true})
	c.await("n1", available, "gpu")

	// The kubelet registers its node anew.
	c.Kubectl(t, "delete", "node", "n1")
	c.Apply(t, `{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {taints: [{key: damask.io/not-ready, effect: NoSchedule}]}}`)
	c.await("n1", available, registered)
	if has := c.condition("n2"); has.Type != "" {
		t.Errorf("n2, which has no agent, has %v", has)
	}
}

// TestOnKubernetesANodeSaysWhatItsConfigurationFileLacks is about Events of the Node, as
// `kubectl describe node` shows them.
func TestOnKubernetesANodeSaysWhatItsConfigurationFileLacks(t *testing.T) {
	c := newCluster(t, "n1")
	a := c.start("n1", kube.Readiness{Been: true})
	a.settle()
	shows := func(want string) {
		t.Helper()
		for until := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			text := c.Kubectl(t, "describe", "node", "n1")
			if strings.Contains(strings.Join(strings.Fields(text), " "), want) {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("it does not say %q:\n%s", want, text)
			}
		}
	}
	a.adapter.ConfigurationSaid("/etc/damask/nodeagent.yaml", nil, []string{"services.engine", "listen"})
	shows("damask-nodeagent /etc/damask/nodeagent.yaml: these fields count from the agent's next start on: services.engine, listen")
	a.adapter.ConfigurationSaid("/etc/damask/nodeagent.yaml", errors.New("/etc/damask/nodeagent.yaml:3: datapath: wrong"), nil)
	shows("Warning DamaskConfigurationWrong")
	shows("what was read before stays in force: /etc/damask/nodeagent.yaml:3: datapath: wrong")
	a.adapter.ConfigurationSaid("/etc/damask/nodeagent.yaml", nil, nil)
	shows("Normal DamaskConfigurationInForce")
}

// TestOnKubernetesANodeTellsItsZone changes the label of an agent's own Node, and of another.
func TestOnKubernetesANodeTellsItsZone(t *testing.T) {
	c := newCluster(t, "n1", "n2")
	a := c.start("n1", kube.Readiness{Been: true})
	heard := func(want string) {
		t.Helper()
		for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			a.mu.Lock()
			got := strings.Join(a.zones, ",")
			a.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("heard of zones %q, want %q", got, want)
			}
		}
	}
	label := func(node, zone string) {
		t.Helper()
		c.Kubectl(t, "label", "node", node, "--overwrite", "topology.kubernetes.io/zone"+zone)
	}
	heard("")
	label("n2", "=north")
	label("n1", "=west")
	heard(",west")
	label("n1", "=east")
	heard(",west,east")
	label("n1", "-")
	heard(",west,east,")
}

func TestOnKubernetesAnAgentWritesItsOwnNodeOnly(t *testing.T) {
	c := newCluster(t, "n1", "n2")
	for _, node := range []string{"n1", "n2"} {
		c.taint(node, "damask.io/not-ready=:NoSchedule", "gpu=yes:NoSchedule")
	}
	own := c.WithToken(t, "damask-system", "damask-nodeagent", "n1")
	unbound := c.WithToken(t, "damask-system", "damask-nodeagent", "")
	const unavailable = `{"status": {"conditions": [{"type": "NetworkUnavailable", "status": "True", "reason": "Test"}]}}`
	const untaint = `{"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}`
	// patch tries what is not kept.
	patch := func(u *kubetest.User, node, text string, subresources ...string) error {
		client, err := typedcorev1.NewForConfig(u.Config())
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Nodes().Patch(t.Context(), node, types.StrategicMergePatchType, []byte(text),
			metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, subresources...)
		return err
	}
	status := []string{"status"}
	for _, tc := range []struct {
		name   string
		who    *kubetest.User
		node   string
		text   string
		args   []string
		refuse string // a part of the reason; empty: it may
	}{
		{"another's condition", own, "n2", unavailable, status, "an agent writes no Node but its own, which is n1"},
		{"another's taint", own, "n2", untaint, nil, "an agent writes no Node but its own, which is n1"},
		{"a condition, by a token of no node", unbound, "n1", unavailable, status, "is not bound to a node"},
		{"its own condition", own, "n1", unavailable, status, ""},
		{"its own taint", own, "n1", untaint, nil, ""},
		{"another condition", own, "n1", `{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}`, status, "the condition NetworkUnavailable, and no other"},
		{"its address", own, "n1", `{"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.66"}]}}`, status, "nothing but conditions"},
		{"a label by its status", own, "n1", `{"metadata": {"labels": {"a": "b"}}}`, status, "metadata"},
		{"a label", own, "n1", `{"metadata": {"labels": {"a": "b"}}}`, nil, "metadata"},
		{"another taint that goes", own, "n1", `{"spec": {"taints": [{"key": "damask.io/not-ready", "effect": "NoSchedule"}]}}`, nil, "takes the taint damask.io/not-ready away, and no other"},
		{"a taint that comes", own, "n1", `{"spec": {"taints": [{"key": "new", "effect": "NoExecute"}, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}}`, nil, "and no other"},
		{"its scheduling", own, "n1", `{"spec": {"unschedulable": true}}`, nil, "nothing but taints in the spec"},
	} {
		// Roles and policies are in force once the API server's own watch has shown them.
		var err error
		for until := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			err = patch(tc.who, tc.node, tc.text, tc.args...)
			if tc.refuse == "" && err == nil || tc.refuse != "" && err != nil && strings.Contains(err.Error(), tc.refuse) {
				break
			}
			if time.Now().After(until) {
				t.Errorf("%s: got %v, want refused because of %q", tc.name, err, tc.refuse)
				break
			}
		}
	}
	for _, verb := range []string{"delete", "create", "update", "deletecollection"} {
		if out, err := own.TryKubectl("auth", "can-i", verb, "nodes"); err == nil {
			t.Errorf("an agent may %s nodes: %s", verb, out)
		}
	}
	// Nobody else is judged.
	if err := patch(c.User, "n2", `{"spec": {"unschedulable": true}}`); err != nil {
		t.Errorf("the administrator: %v", err)
	}
}

// bound waits until a pod was bounded to this.
func (a *agent) bound(pod, uid, want string) {
	a.c.Helper()
	got := ""
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		a.mu.Lock()
		got = a.limits[pod+" "+uid]
		a.mu.Unlock()
		if got == want {
			return
		}
	}
	a.c.Fatalf("%s was bounded to %q, want %q", pod, got, want)
}

func TestOnKubernetesAPodIsAsFastAsItsAnnotationsSay(t *testing.T) {
	c := newCluster(t, "n1", "n2")
	c.Kubectl(t, "create", "namespace", "red")
	uids := map[string]string{}
	for pod, node := range map[string]string{"web": "n1", "elsewhere": "n2"} {
		c.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: red, annotations: {kubernetes.io/ingress-bandwidth: 10M}}
spec: {nodeName: %s, containers: [{name: c, image: i}]}
`, pod, node))
		uids[pod] = c.Kubectl(t, "get", "pod", pod, "-n", "red", "-o", "jsonpath={.metadata.uid}")
	}
	a := c.start("n1", kube.Readiness{})
	annotate := func(annotations ...string) {
		t.Helper()
		c.Kubectl(t, append([]string{"annotate", "pod", "web", "-n", "red", "--overwrite"}, annotations...)...)
	}
	a.bound("red/web", uids["web"], "10000000 0")
	annotate("kubernetes.io/ingress-bandwidth=20M", "kubernetes.io/egress-bandwidth=5M")
	a.bound("red/web", uids["web"], "20000000 5000000")

	// What is wrong changes nothing, and is said.
	annotate("kubernetes.io/ingress-bandwidth=30M", "kubernetes.io/egress-bandwidth=12")
	for until := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		said := c.Kubectl(t, "get", "events", "-n", "red", "-o", `jsonpath={range .items[*]}{.involvedObject.name} {.reason} {.message}{"\n"}{end}`)
		if strings.Contains(said, "web InvalidBandwidth annotation kubernetes.io/egress-bandwidth: 12 is not 1k to 1P bits a second") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("events say %q", said)
		}
	}
	a.bound("red/web", uids["web"], "20000000 5000000")

	// Changed while the API server was away from the agent, and then removed.
	c.StopServer()
	c.StartServer(t)
	annotate("kubernetes.io/ingress-bandwidth-", "kubernetes.io/egress-bandwidth=7M")
	a.bound("red/web", uids["web"], "0 7000000")
	annotate("kubernetes.io/egress-bandwidth-")
	a.bound("red/web", uids["web"], "0 0")

	// It is asked for again when the pod is attached.
	a.mu.Lock()
	clear(a.limits)
	a.mu.Unlock()
	a.adapter.PodChanged("red", "web")
	a.bound("red/web", uids["web"], "0 0")
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.limits) != 1 {
		t.Errorf("pods of other nodes were bounded: %v", a.limits)
	}
}
