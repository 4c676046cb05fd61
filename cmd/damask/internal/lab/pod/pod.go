// Package pod keeps the pods of a lab, as kubelets do.
//
// It owns each pod's network namespace and which sandbox it is in. It promises
// that a pod exists whole or not at all: a refused ADD leaves nothing, a delete
// ends the pod's processes, and after a power failure each pod of the node gets a
// new sandbox under its old name. It must not choose addresses.
package pod

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/machine"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/node"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/underlay"
)

// Wish is what a pod shall be.
type Wish struct {
	// Namespace and Name are the pod's name.
	Namespace, Name string
	// UID is its Pod's, as a runtime has it of the API server; empty: there is none.
	UID string
	// IP is the address that it shall have; empty: any.
	IP string
	// OFPort is the port that it shall have; 0: any.
	OFPort uint32
	// Labels are the pod's.
	Labels map[string]string
	// Annotations are the pod's.
	Annotations map[string]string
	// Ports are what its containers declare.
	Ports []node.ContainerPort
	// HostPorts are ports of its node that lead to it.
	HostPorts []node.HostPort
}

// Key is the pod's full name.
func (w Wish) Key() string { return w.Namespace + "/" + w.Name }

// Pod is a pod as it is.
type Pod struct {
	Wish
	// Node is where it runs.
	Node *node.Node
	// Sandbox is the id of its sandbox.
	Sandbox string
	// IPs and MAC are what the plugin answered; empty while it is not attached.
	IPs []string
	MAC string
	// Attached tells whether the ADD of the sandbox succeeded.
	Attached bool
	// Error is why it is not attached.
	Error string
}

// Netns is the path of its network namespace on the node.
func (p *Pod) Netns() string { return enter.NetPath(netnsName(p.Sandbox)) }

func (p *Pod) sandbox() node.Sandbox {
	return node.Sandbox{
		ID: p.Sandbox, Netns: p.Netns(), Namespace: p.Namespace, Name: p.Name, UID: p.UID,
		IP: p.IP, OFPort: p.OFPort, Labels: p.Labels, Annotations: p.Annotations, Ports: p.Ports, HostPorts: p.HostPorts,
	}
}

// netnsName follows the runtimes, whose namespaces are named "cni-" and a uuid.
func netnsName(sandbox string) string { return "cni-" + sandbox[:32] }

// Table holds all pods of a lab. It is safe for concurrent use.
type Table struct {
	mu   sync.Mutex
	pods map[string]*entry
}

// entry is a pod and whether somebody works on it.
type entry struct {
	Pod
	busy bool
}

// NewTable is a lab without pods.
func NewTable() *Table { return &Table{pods: map[string]*entry{}} }

var (
	// ErrExists is a second pod of one name.
	ErrExists = errors.New("there is a pod of this name")
	// ErrNotFound is a pod that the lab does not have.
	ErrNotFound = errors.New("there is no such pod")
	// ErrBusy is a pod that another call works on.
	ErrBusy = errors.New("another command works on this pod; try again")
)

// List returns copies of all pods, by namespace and name.
func (t *Table) List() []Pod {
	t.mu.Lock()
	defer t.mu.Unlock()
	pods := make([]Pod, 0, len(t.pods))
	for _, e := range t.pods {
		pods = append(pods, e.Pod)
	}
	slices.SortFunc(pods, func(a, b Pod) int { return strings.Compare(a.Key(), b.Key()) })
	return pods
}

// Add makes a pod on a node and attaches it.
func (t *Table) Add(ctx context.Context, n *node.Node, wish Wish) (Pod, error) {
	sandbox, err := newSandbox()
	if err != nil {
		return Pod{}, err
	}
	e := &entry{Pod: Pod{Wish: wish, Node: n, Sandbox: sandbox}, busy: true}
	t.mu.Lock()
	if _, exists := t.pods[wish.Key()]; exists {
		t.mu.Unlock()
		return Pod{}, ErrExists
	}
	t.pods[wish.Key()] = e
	t.mu.Unlock()
	made, err := attach(ctx, e.Pod)
	t.mu.Lock()
	defer t.mu.Unlock()
	e.busy = false
	if err != nil {
		delete(t.pods, wish.Key())
		return Pod{}, err
	}
	e.Pod = made
	return made, nil
}

// Delete removes a pod. On a node that is off there is nothing to detach: the node
// collects what is left when it starts.
func (t *Table) Delete(ctx context.Context, key string) error {
	e, err := t.claim(key)
	if err != nil {
		return err
	}
	err = detach(ctx, e.Pod)
	t.mu.Lock()
	defer t.mu.Unlock()
	e.busy = false
	if err != nil {
		return err
	}
	delete(t.pods, key)
	return nil
}

func (t *Table) claim(key string) (*entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, found := t.pods[key]
	if !found {
		return nil, ErrNotFound
	}
	if e.busy {
		return nil, ErrBusy
	}
	e.busy = true
	return e, nil
}

// Off notes that a node went off, and its pods with it.
func (t *Table) Off(n *node.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.pods {
		if e.Node == n {
			e.Attached, e.IPs, e.MAC, e.Error = false, nil, "", "its node is off"
		}
	}
}

// abreast is how many pods a node starts at once, as a kubelet does in parallel.
const abreast = 4

// Collect detaches what the node's agent has and no pod is in: what a command left
// while the agent was away.
func (t *Table) Collect(ctx context.Context, n *node.Node) error {
	var valid []string
	t.mu.Lock()
	for _, e := range t.pods {
		if e.Node == n && (e.Attached || e.busy) {
			valid = append(valid, e.Sandbox)
		}
	}
	t.mu.Unlock()
	if err := n.Collect(ctx, valid); err != nil {
		return fmt.Errorf("collect former sandboxes of node %s: %w", n.Name(), err)
	}
	return nil
}

// Restore gives the pods of a node that was off new sandboxes. It answers how many
// there are; the error names each that was refused.
func (t *Table) Restore(ctx context.Context, n *node.Node) (int, error) {
	lost, err := t.claimLost(n)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var refused []error
	var group errgroup.Group
	group.SetLimit(abreast)
	for _, e := range lost {
		group.Go(func() error {
			made, err := attach(ctx, e.Pod)
			t.mu.Lock()
			defer t.mu.Unlock()
			e.busy = false
			if err != nil {
				e.Error = err.Error()
				mu.Lock()
				refused = append(refused, fmt.Errorf("pod %s: %w", e.Key(), err))
				mu.Unlock()
				return nil
			}
			e.Pod = made
			return nil
		})
	}
	_ = group.Wait() // each refusal is in refused
	return len(lost), errors.Join(refused...)
}

// claimLost claims the pods of a node that have no sandbox any more, and gives them
// the ids of new ones.
func (t *Table) claimLost(n *node.Node) ([]*entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lost []*entry
	for _, e := range t.pods {
		if e.Node != n || e.Attached || e.busy {
			continue
		}
		sandbox, err := newSandbox()
		if err != nil {
			for _, claimed := range lost {
				claimed.busy = false
			}
			return nil, err
		}
		e.Sandbox, e.busy = sandbox, true
		lost = append(lost, e)
	}
	return lost, nil
}

// newSandbox draws an id as container runtimes do.
func newSandbox() (string, error) {
	var id [32]byte
	_, err := rand.Read(id[:])
	return hex.EncodeToString(id[:]), err
}

// attach makes the pod's sandbox and attaches it, or leaves nothing.
func attach(ctx context.Context, p Pod) (Pod, error) {
	ns, err := p.Node.Machine.Namespaces()
	if err != nil {
		return p, err
	}
	name := netnsName(p.Sandbox)
	if err := enter.NewNet(ns.Mount, name); err != nil {
		return p, err
	}
	if err := loopbackUp(p); err != nil {
		return p, errors.Join(err, enter.RemoveNet(ns.Mount, name))
	}
	attached, err := p.Node.Add(ctx, p.sandbox())
	if err != nil {
		// A runtime, too, sends a DEL after an ADD that failed. If the agent is away
		// that fails as well, and Collect catches up when it is back.
		_ = p.Node.Delete(context.WithoutCancel(ctx), p.sandbox())
		return p, errors.Join(err, enter.RemoveNet(ns.Mount, name))
	}
	p.IPs, p.MAC, p.Attached, p.Error = attached.IPs, attached.MAC, true, ""
	return p, nil
}

func loopbackUp(p Pod) error {
	return underlay.LoopbackUp(enter.InNet(p.Node.Machine.PID(), p.Netns()).Net)
}

// detach ends a pod on a node that is on.
func detach(ctx context.Context, p Pod) error {
	ns, err := p.Node.Machine.Namespaces()
	if errors.Is(err, machine.ErrOff) || p.Sandbox == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if err := endProcesses(enter.InNet(p.Node.Machine.PID(), p.Netns()).Net); err != nil {
		return err
	}
	if err := p.Node.Delete(ctx, p.sandbox()); err != nil {
		return err
	}
	return enter.RemoveNet(ns.Mount, netnsName(p.Sandbox))
}
