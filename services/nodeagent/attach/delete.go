package attach

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// detachTimeout bounds one detachment. It goes on when the caller has gone: half
// of it helps nobody. It needs about ten milliseconds.
const detachTimeout = 20 * time.Second

// Delete implements cniv1.CNIServiceService.
func (s *Server) Delete(ctx context.Context, r *cniv1.DeleteRequest) (*cniv1.DeleteResponse, error) {
	var f faults
	f.key(r.GetContainerId(), r.GetIfname())
	if err := f.err(); err != nil {
		return nil, err
	}
	unlock, err := s.locks.lock(ctx, r.GetContainerId())
	if err != nil {
		return nil, refusal("wait for another command on this container", err)
	}
	defer unlock()
	l, ok := s.Leases.Lookup(lease.Key{ContainerID: r.GetContainerId(), Ifname: r.GetIfname()})
	if !ok {
		return &cniv1.DeleteResponse{}, nil
	}
	if err := s.detach(ctx, l.Attachment); err != nil {
		return nil, refusal("detach pod "+l.Attachment.GetPodNamespace()+"/"+l.Attachment.GetPodName(), err)
	}
	s.log.Debug("pod detached", "namespace", l.Attachment.GetPodNamespace(), "pod", l.Attachment.GetPodName())
	return &cniv1.DeleteResponse{}, nil
}

// detach undoes an attachment, however far it got. The pod is closed first and its
// address is released last, when nothing uses it any more. After an error the
// lease is still there, marked, so that it can be tried again. The caller holds
// the container's lock.
func (s *Server) detach(ctx context.Context, a *cniv1.Attachment) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachTimeout)
	defer cancel()
	key := lease.KeyOf(a)
	if err := s.Leases.Detaching(key); err != nil {
		return err
	}
	if len(a.GetHostPorts()) > 0 {
		if err := s.HostPorts.Close(ctx, a); err != nil {
			return err
		}
	}
	if err := s.Programmer.Unprogram(ctx, a); err != nil {
		return err
	}
	if err := s.unplug(ctx, a.GetHostVeth()); err != nil {
		return err
	}
	if err := s.removeRouter(ctx, a); err != nil {
		return err
	}
	if err := s.Leases.Release(key); err != nil {
		return err
	}
	s.Registry.PodDown(a)
	return nil
}

// unplug takes a veth out of the switch and out of the kernel. Neither waits for
// the other: the kernel takes milliseconds to remove a device.
func (s *Server) unplug(ctx context.Context, veth string) error {
	var group errgroup.Group
	var portErr, linkErr error
	group.Go(func() error {
		portErr = s.Ports.DeletePort(ctx, veth)
		return nil
	})
	group.Go(func() error {
		linkErr = s.Links.DeletePod(ctx, veth)
		return nil
	})
	_ = group.Wait() // both errors count
	return errors.Join(portErr, linkErr)
}
