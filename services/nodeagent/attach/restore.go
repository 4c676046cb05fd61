package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// Restore comes after the bridge was ensured and before the first command: it
// makes leases and ports agree and answers the pods that live here, whose flows
// must stay. It needs no control service and sends no flow; the caller compares
// the flows, and reports the pods, when it has the answer.
//
//   - A half-made attachment is taken away: its ADD never answered, or its DEL was
//     on the way.
//   - An attachment whose cable and namespace are both gone is taken away: that is
//     a pod from before a reboot.
//   - A port without a lease (the lease store was lost) is adopted when its marks
//     tell the whole attachment, and removed otherwise.
//   - A port that OpenShift SDN made becomes ours as it is. If it cannot be said whose it
//     is, that is an error.
//   - A lease without a port (the switch's database was lost) gets it again.
//
// What cannot be repaired is logged and left for CHECK, DEL or GC. An error means
// that nothing is known, and that no flow may be removed.
func (s *Server) Restore(ctx context.Context) ([]*cniv1.Attachment, error) {
	if torn := s.Leases.Torn(); torn > 0 {
		s.log.Info("end of the lease log was not complete and was cut off", "bytes", torn)
	}
	all, err := s.Ports.Ports(ctx)
	if err != nil {
		return nil, fmt.Errorf("restore attachments: %w", err)
	}
	byName := map[string]bridge.Port{}
	var inherited []bridge.Port
	for _, p := range all {
		byName[p.Name] = p
		switch {
		case !isPod(p) || !s.isStray(p):
		case isInherited(p) && !isLost(p):
			inherited = append(inherited, p)
		default:
			s.adopt(ctx, p)
		}
	}
	if err := s.inherit(inherited); err != nil {
		return nil, fmt.Errorf("restore attachments: %w", err)
	}
	leases := s.Leases.List()
	pods := make([]*cniv1.Attachment, len(leases)) // nil: taken away
	var group errgroup.Group
	group.SetLimit(collectWidth)
	for i, l := range leases {
		group.Go(func() error {
			port, plugged := byName[l.Attachment.GetHostVeth()]
			if l.Attached && !s.isDead(port, plugged, l.Attachment) {
				pods[i] = s.replug(ctx, l.Attachment, port, plugged)
				return nil
			}
			s.takeAway(ctx, l.Attachment)
			return nil
		})
	}
	_ = group.Wait() // each logs its own error
	return slices.DeleteFunc(pods, func(a *cniv1.Attachment) bool { return a == nil }), nil
}

// adopt gives a stray port a lease, or removes it.
func (s *Server) adopt(ctx context.Context, p bridge.Port) {
	a, err := attachmentOf(p)
	if err == nil && checkNetns(a.GetNetns()) != nil {
		err = fmt.Errorf("network namespace %s is gone", a.GetNetns())
	}
	if err == nil {
		err = s.Leases.Adopt(a)
	}
	if err == nil {
		s.log.Info("attachment adopted from the switch", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "port", p.Name)
		return
	}
	s.log.Info("stray port removed", "port", p.Name, "container_id", p.ExternalIDs[idSandbox], "reason", err)
	if err := s.unplug(ctx, p.Name); err != nil {
		s.log.Warn("stray port not removed", "port", p.Name, "error", err)
	}
}

// isDead says whether nothing can be using an attachment. Both signs must agree:
// the namespace's path alone can be out of this process's sight.
func (s *Server) isDead(port bridge.Port, plugged bool, a *cniv1.Attachment) bool {
	if _, err := os.Stat(a.GetNetns()); err == nil {
		return false
	}
	// The switch says so of a port whose device is gone.
	return !plugged || port.Error != "" || port.OFPort == 0
}

// takeAway removes an attachment without flows: those that it has are removed by
// the comparison that follows, because nobody wants them.
func (s *Server) takeAway(ctx context.Context, a *cniv1.Attachment) {
	err := errors.Join(s.unplug(ctx, a.GetHostVeth()), s.removeRouter(ctx, a))
	if err == nil {
		err = s.Leases.Release(lease.KeyOf(a))
	}
	if err != nil {
		s.log.Warn("half-made attachment not removed", "container_id", a.GetContainerId(), "ifname", a.GetIfname(), "error", err)
		return
	}
	s.log.Info("half-made attachment removed", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "container_id", a.GetContainerId())
}

// replug makes the switch's side of a living attachment right.
func (s *Server) replug(ctx context.Context, a *cniv1.Attachment, port bridge.Port, plugged bool) *cniv1.Attachment {
	if plugged && len(comparePort([]bridge.Port{port}, a)) == 0 {
		return a
	}
	repaired, err := s.plug(ctx, a, false)
	if err != nil {
		s.log.Warn("port of a pod not repaired", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "port", a.GetHostVeth(), "error", err)
		return a
	}
	s.log.Info("port of a pod repaired", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(), "port", a.GetHostVeth())
	return repaired
}
