package nodeagent

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/follow"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// WaitProgrammed returns when everything of policies that concerns this node, up to a
// store sequence, is in force. It answers what is not, if ctx ends first.
//
// What the pods list says which policies are followed, and these say which groups:
// each kind is complete up to the sequence before the next one is asked for.
func (p *policies) WaitProgrammed(ctx context.Context, prog *intent.Programmer, sequence uint64) error {
	if err := p.followed.pods.Reach(ctx, sequence); err != nil {
		return err
	}
	p.podsChanged()
	if err := p.followed.policies.Reach(ctx, sequence); err != nil {
		return err
	}
	p.podsChanged()
	if err := p.followed.groups.Reach(ctx, sequence); err != nil {
		return err
	}
	return errors.Join(
		programmed(ctx, prog, intent.KindAddressGroup, p.followed.groups),
		programmed(ctx, prog, intent.KindPolicy, p.followed.policies),
		programmed(ctx, prog, intent.KindPodPolicies, p.followed.pods),
	)
}

// revisioned is an object with its revision.
type revisioned interface {
	proto.Message
	GetRevision() uint64
}

// programmed waits until all objects of a kind that are known now are in force.
func programmed[T revisioned](ctx context.Context, prog *intent.Programmer, kind string, known *follow.Follower[T]) error {
	for name, object := range known.Snapshot() {
		followed, done, err := prog.WaitProgrammed(ctx, intent.Object{Kind: kind, Name: name}, object.GetRevision())
		if followed && err != nil {
			return fmt.Errorf("%s %s is at revision %d, not at %d: %w", kind, name, done, object.GetRevision(), err)
		}
	}
	return nil
}
