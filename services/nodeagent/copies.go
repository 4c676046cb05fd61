package nodeagent

import (
	"context"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// listen has the switch make the copies of packets that somebody asks for, if it can bound
// them. It is called before the switch is compared first.
func (p *plumbing) listen(ctx context.Context) error {
	can, err := p.metered(ctx)
	if err != nil {
		return err
	}
	if !can {
		p.log.Error("the switch has no meters: names below wildcards are not allowed, and decisions of policies not logged")
		return nil
	}
	p.state.FollowDecisions()
	if p.firewalls != nil {
		p.firewalls.listen()
	}
	return nil
}

// copied takes a copy of a packet from the switch.
func (a *agent) copied(p openflow.PacketIn) {
	switch {
	case p.Table != pipeline.TableAnswers:
		a.decisions.Copied(p)
	case a.firewalls != nil:
		a.firewalls.lookups.Answer(p.Packet)
	}
}
