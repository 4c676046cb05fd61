package supervisor

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/node"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/pod"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/topology"
)

func (s *Supervisor) addPods(ctx context.Context) error {
	// What is asked for comes first, so that nobody else gets it by chance.
	for _, asking := range []bool{true, false} {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(abreast)
		for _, p := range s.topology.Pods {
			if (p.IP.IsValid() || p.OFPort != 0) != asking {
				continue
			}
			wish := wishOf(p)
			group.Go(func() error {
				return patiently(ctx, func() error {
					_, err := s.addPod(ctx, p.Node, wish)
					return err
				})
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// tries is how often a pod of the topology is added at most. Each takes seconds: the agent
// waits by itself for what it does not know yet.
const tries = 10

// patiently adds a pod, and again when the plugin asks for that (error 11 of the CNI
// specification), as kubelet does: agents of a machine at its limits hear late of a
// namespace that was made a moment ago.
func patiently(ctx context.Context, add func() error) error {
	for try := 1; ; try++ {
		err := add()
		var refused *types.Error
		if try == tries || !errors.As(err, &refused) || refused.Code != types.ErrTryAgainLater {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second): // as kubelet, roughly
		}
	}
}

func wishOf(p topology.Pod) pod.Wish {
	wish := pod.Wish{Namespace: p.Namespace, Name: p.Name, OFPort: p.OFPort, Labels: p.Labels, Annotations: p.Annotations}
	if p.IP.IsValid() {
		wish.IP = p.IP.String()
	}
	for _, port := range p.Ports {
		wish.Ports = append(wish.Ports, node.ContainerPort{Name: port.Name, ContainerPort: port.ContainerPort, Protocol: port.Protocol})
		if port.HostPort != 0 {
			wish.HostPorts = append(wish.HostPorts, hostPort(port))
		}
	}
	return wish
}

// hostPort says it as a container runtime does.
func hostPort(p topology.ContainerPort) node.HostPort {
	h := node.HostPort{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: strings.ToLower(cmp.Or(p.Protocol, "TCP"))}
	if p.HostIP.IsValid() {
		h.HostIP = p.HostIP.String()
	}
	return h
}
