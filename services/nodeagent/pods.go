package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/follow"
	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
	"github.com/damask-sdn/damask/services/nodeagent/outside"
	"github.com/damask-sdn/damask/services/nodeagent/report"
)

const (
	// arrival is how long an ADD waits for a namespace that nobody knows yet: it
	// is made at the same time as its first pod, by somebody else.
	arrival = 3 * time.Second
	// idleNamespaces is how many namespaces without pods the node goes on
	// following, so that a pod can come back while the control services are away.
	idleNamespaces = 64
)

// restorer makes leases, ports and cables agree at start (attach.Server).
type restorer interface {
	Restore(ctx context.Context) ([]*cniv1.Attachment, error)
	Recognise(ctx context.Context) error
	Inherited() []*cniv1.Attachment
	RestoreBandwidth(ctx context.Context) []string
}

// pods is what attachments need of the cluster's state: the VNID of a
// namespace, the flows of a pod, and the pod registry.
type pods struct {
	node       string
	zone       *zone
	state      *intent.State
	programmer *intent.Programmer
	namespaces *follow.Follower[*tenancyv1.NetNamespace]
	interest   *interest
	leases     *lease.Store
	hostPorts  *hostPorts
	reporter   *report.Reporter
	policies   *policies
	restorer   restorer
	guard      *outside.Guard               // nil: there are no firewalls
	attached   func(namespace, name string) // told of pods that are attached, and does not wait; nil: nobody asks
	wake       func()                       // asks for a pass, when the last unknown namespace is known
	log        hclog.Logger

	mu      sync.Mutex
	count   map[string]int  // attachments of each namespace
	idle    []string        // followed namespaces without attachments, longest first
	waiting map[string]bool // namespaces of restored pods, until it is known whose they are
	// admitted are pods whose policies are waited for: the registry is told of them
	// before they are attached. By sandbox and interface.
	admitted map[[2]string]bool
}

func podOf(a *cniv1.Attachment) (intent.Pod, error) {
	if len(a.GetIps()) == 0 {
		return intent.Pod{}, errors.New("the attachment has no address")
	}
	prefix, err := netip.ParsePrefix(a.GetIps()[0])
	if err != nil {
		return intent.Pod{}, fmt.Errorf("the attachment's address: %w", err)
	}
	return intent.Pod{
		Namespace: a.GetPodNamespace(), Name: a.GetPodName(),
		Sandbox: a.GetContainerId(), Ifname: a.GetIfname(), IP: prefix.Addr(), Port: a.GetOfport(),
	}, nil
}

// restore takes the pods that live here into the state. Their flows are in the
// switch already; nothing is sent.
func (p *pods) restore(ctx context.Context) error {
	attachments, err := p.restorer.Restore(ctx)
	if err != nil {
		return err
	}
	for _, a := range attachments {
		pod, err := podOf(a)
		if err != nil {
			p.log.Error("pod not restored", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "error", err)
			continue
		}
		p.state.AddPod(pod)
		p.enter(a.GetPodNamespace())
		if err := p.hostPorts.keep(a); err != nil {
			p.log.Error("host ports not restored", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "error", err)
		}
		p.policies.remember(a)
	}
	p.reporter.Begin()
	p.reporter.Changed()
	p.mu.Lock()
	defer p.mu.Unlock()
	for namespace := range p.count {
		if _, known := p.state.VNID(namespace); !known {
			p.waiting[namespace] = true
			go p.resolve(ctx, namespace)
		}
	}
	return nil
}

// resolve waits until it is known whether a namespace exists, and if so until
// the state has it. It ends with ctx.
func (p *pods) resolve(ctx context.Context, namespace string) {
	_, exists, err := p.namespaces.Find(ctx, namespace)
	if err == nil && exists {
		_, err = p.state.AwaitVNID(ctx, namespace)
	}
	if err != nil {
		return // ctx has ended
	}
	if !exists {
		p.log.Warn("namespace of running pods does not exist, they stay closed", "namespace", namespace)
	}
	p.mu.Lock()
	delete(p.waiting, namespace)
	last := len(p.waiting) == 0
	p.mu.Unlock()
	if last {
		p.wake()
	}
}

// unresolved names what is not known yet about the pods that were restored.
func (p *pods) unresolved() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var missing []string
	for namespace := range p.waiting {
		missing = append(missing, "the VNID of namespace "+namespace)
	}
	return missing
}

// enter counts an attachment of a namespace and follows the namespace.
func (p *pods) enter(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count[namespace]++
	p.idle = slices.DeleteFunc(p.idle, func(name string) bool { return name == namespace })
	p.interest.podsWant(namespace)
}

// leave counts one less, and stops following what has been idle longest.
func (p *pods) leave(namespace string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[namespace]--; p.count[namespace] > 0 {
		return
	}
	delete(p.count, namespace)
	p.linger(namespace)
}

// linger goes on following a namespace without attachments, and stops
// following the one that has been so for longest if there are too many. The
// caller holds the lock.
func (p *pods) linger(namespace string) {
	if slices.Contains(p.idle, namespace) {
		return
	}
	p.idle = append(p.idle, namespace)
	if len(p.idle) > idleNamespaces {
		p.interest.podsDrop(p.idle[0])
		p.idle = p.idle[1:]
	}
}

// VNID answers the VNID of a namespace; a known one at once, whatever is away.
func (p *pods) VNID(ctx context.Context, namespace string) (uint32, error) {
	if vnid, known := p.state.VNID(namespace); known {
		return vnid, nil
	}
	p.interest.podsWant(namespace)
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	vnid, err := p.state.AwaitVNID(ctx, namespace)
	if err == nil {
		p.interest.leavingKnown(ctx, namespace)
		return vnid, nil
	}
	p.mu.Lock()
	if p.count[namespace] == 0 {
		p.linger(namespace) // the next ADD asks again, and may be answered at once
	}
	p.mu.Unlock()
	return 0, rpcerr.New(codes.FailedPrecondition, "node.damask", "UNKNOWN_NAMESPACE",
		fmt.Sprintf("namespace %s has no VNID that this node could learn within %s: either it does not exist or the tenancy service is away", namespace, arrival), nil)
}

// Program puts a pod's flows into the switch and answers when they are there.
func (p *pods) Program(ctx context.Context, a *cniv1.Attachment) error {
	pod, err := podOf(a)
	if err != nil {
		return err
	}
	if !p.state.HasPod(pod) {
		p.enter(pod.Namespace)
	}
	change := p.state.AddPod(pod)
	p.policies.podsChanged()
	if err := p.admit(ctx, a, pod); err != nil {
		return err
	}
	if !p.state.Open(pod) {
		return fmt.Errorf("pod %s/%s cannot have flows: address %s, port %d", pod.Namespace, pod.Name, pod.IP, pod.Port)
	}
	p.tellGuard(ctx)
	return p.programmer.Program(ctx, change)
}

// Unprogram takes a pod's flows out of the switch.
func (p *pods) Unprogram(ctx context.Context, a *cniv1.Attachment) error {
	pod, err := podOf(a)
	if err != nil || !p.state.HasPod(pod) {
		return nil //nolint:nilerr // what has no address has no flows
	}
	change := p.state.RemovePod(pod)
	p.tellGuard(ctx) // before anybody else can have the address
	err = p.programmer.Program(ctx, change)
	p.policies.podsChanged()
	p.leave(pod.Namespace)
	if errors.Is(err, intent.ErrNotStarted) {
		return nil // the comparison to come leaves them out
	}
	return err
}

// tellGuard tells which pods there are to what judges endpoints outside. One that it does not
// know, it lets reach none.
func (p *pods) tellGuard(ctx context.Context) {
	if p.guard == nil {
		return
	}
	if err := p.guard.Sync(ctx); err != nil {
		p.log.Warn("endpoints outside of the cluster are not judged anew, trying again", "error", err)
		p.guard.Wake()
	}
}

// Differences tells, for CHECK, how a pod's flows differ from what they should be.
func (p *pods) Differences(ctx context.Context, a *cniv1.Attachment) ([]string, error) {
	pod, err := podOf(a)
	if err != nil {
		return nil, err
	}
	if !p.state.HasPod(pod) {
		return []string{"the pod is not among those of this node"}, nil
	}
	return p.programmer.Differences(ctx, pod)
}

// PodUp and PodDown tell the registry, later.
func (p *pods) PodUp(a *cniv1.Attachment) {
	p.settled(a)
	p.reporter.Changed()
	if p.attached != nil {
		p.attached(a.GetPodNamespace(), a.GetPodName())
	}
}

// PodDown is told when an attachment is gone.
func (p *pods) PodDown(a *cniv1.Attachment) {
	p.settled(a)
	p.reporter.Changed()
}

// registered answers the node's pods as the registry should have them.
func (p *pods) registered() []*tenancyv1.Pod {
	var list []*tenancyv1.Pod
	for _, l := range p.leases.List() {
		a := l.Attachment
		pod, err := podOf(a)
		if err != nil || !l.Attached && !p.isAdmitted(a) {
			continue
		}
		list = append(list, &tenancyv1.Pod{
			Namespace: a.GetPodNamespace(), Name: a.GetPodName(), Node: p.node,
			Ips: []string{pod.IP.String()}, Labels: a.GetLabels(), SandboxId: a.GetContainerId(),
			Ports: registeredPorts(a.GetPorts()), Zone: p.zone.get(), Uid: a.GetPodUid(),
		})
	}
	return list
}

// registeredPorts says the same in the registry's terms.
func registeredPorts(ports []*cniv1.ContainerPort) []*tenancyv1.ContainerPort {
	protocols := map[cniv1.Protocol]tenancyv1.Protocol{
		cniv1.Protocol_PROTOCOL_UNSPECIFIED: tenancyv1.Protocol_PROTOCOL_TCP,
		cniv1.Protocol_PROTOCOL_TCP:         tenancyv1.Protocol_PROTOCOL_TCP,
		cniv1.Protocol_PROTOCOL_UDP:         tenancyv1.Protocol_PROTOCOL_UDP,
		cniv1.Protocol_PROTOCOL_SCTP:        tenancyv1.Protocol_PROTOCOL_SCTP,
	}
	var list []*tenancyv1.ContainerPort
	for _, p := range ports {
		list = append(list, &tenancyv1.ContainerPort{Name: p.GetName(), ContainerPort: p.GetContainerPort(), Protocol: protocols[p.GetProtocol()]})
	}
	return list
}

// devices answers the host ends of the node's pods.
func (p *pods) devices() []string {
	var names []string
	for _, l := range p.leases.List() {
		names = append(names, l.Attachment.GetHostVeth())
	}
	return names
}
