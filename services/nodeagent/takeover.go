package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/ancestor"
)

// A node that OpenShift SDN had is taken over by an ordinary start: a comparison with
// what is there. What is not ordinary is here: its agent must have ended, its pods are
// known by what the container runtime noted (package ancestor), tun0 keeps its MAC
// (bridge.GatewayMAC), and its flows stay until all that should replace them is known
// (docs/decisions/037-a-takeover-is-a-start.md).

// succeedAfter is how often the agent looks whether the other one has ended: for so long
// nobody adds pods.
const succeedAfter = 200 * time.Millisecond

// errPredecessor is a node on which two agents would write.
var errPredecessor = errors.New("the agent of OpenShift SDN is at work on this node")

// alone says whether this agent is the only one on the node. Once it was, whoever starts
// the other one finds a bridge that is not its own, and that is not looked for any more.
func (p *plumbing) alone(ctx context.Context) error {
	if !p.ready && p.ancestor.Running(ctx) {
		return fmt.Errorf("%w, it answers at %s", errPredecessor, p.ancestor.Socket)
	}
	if p.services != nil && !p.told {
		p.told = true
		p.services.Wake() // the service proxy of the other agent has ended with it
	}
	return nil
}

// proxied says whether another agent's service proxy may be at work: it is in the agent of
// OpenShift SDN, and writes the rules that ours would. Once it was not it is not asked for
// any more.
type proxied struct {
	ancestor ancestor.Node
	ended    atomic.Bool
}

func (p *proxied) byOther(ctx context.Context) bool {
	if p.ended.Load() {
		return false
	}
	if p.ancestor.Running(ctx) {
		return true
	}
	p.ended.Store(true)
	return false
}

// succession is how long after a takeover flows are there for what is under way from
// before. Packets are under way for as long as the switch corrects its cache, and where
// policies decide a connection is known as soon as its opener has sent: of UDP that is
// silent longer, connection tracking has forgotten it (nf_conntrack_udp_timeout_stream, two
// minutes by default).
const succession = 10 * time.Minute

// succeed tells the state whether the node was taken over a short while ago. That it no
// longer was is a change like others, and no repair.
func (p *plumbing) succeed(ctx context.Context, succeeds bool) error {
	change := p.state.Succeed(succeeds)
	if !p.ready {
		return nil // The first comparison is to come.
	}
	return p.programmer.Program(ctx, change)
}

// inheritEgress opens the guard of egress IPs for those that the node hosts, before there is
// one: as they are in iptables. So none of their packets ends in it, and flows lead to
// them from the first comparison on, if egress still wants them here.
func (p *plumbing) inheritEgress(ctx context.Context) (repairs []string, err error) {
	if network, _ := p.state.Network(); p.ready || !network.Node.Succeeds {
		return nil, nil
	}
	had, err := p.rules.Translations(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for egress IPs that OpenShift SDN hosted here: %w", err)
	}
	inherited, err := p.egress.guard.Inherit(ctx, had)
	if inherited {
		for _, e := range had {
			repairs = append(repairs, fmt.Sprintf("egress IP %s taken over, mark %#x", e.IP, e.Mark))
		}
	}
	return repairs, err
}

// awaitInherited waits until the policies are in force of the pods that were taken over:
// tenancy hears of them from this agent, and until it has said what applies to them, they
// would be closed. Meanwhile the flows that they had go on.
func (p *pods) awaitInherited(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	for _, a := range p.restorer.Inherited() {
		pod, err := podOf(a)
		if err == nil {
			err = p.state.AwaitPolicies(ctx, pod)
		}
		if err != nil {
			return fmt.Errorf("pod %s/%s, which OpenShift SDN attached: %w", a.GetPodNamespace(), a.GetPodName(), err)
		}
	}
	return nil
}
