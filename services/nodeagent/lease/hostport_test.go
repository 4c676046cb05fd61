package lease_test

import (
	"errors"
	"testing"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

func hostPort(protocol cniv1.Protocol, port uint32, address string) *cniv1.HostPort {
	return &cniv1.HostPort{HostIp: address, HostPort: port, ContainerPort: 80, Protocol: protocol}
}

// TestHostPortHasOneOwner asks for ports while pod 1 has TCP 8080 everywhere, and 9090
// on one address.
func TestHostPortHasOneOwner(t *testing.T) {
	const tcp, udp = cniv1.Protocol_PROTOCOL_TCP, cniv1.Protocol_PROTOCOL_UDP
	dir := t.TempDir()
	s := open(t, dir)
	first := owner(1)
	first.HostPorts = []*cniv1.HostPort{hostPort(tcp, 8080, ""), hostPort(tcp, 9090, "192.0.2.1")}
	if _, err := s.Allocate(subnet, first, lease.Wish{}); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	for name, c := range map[string]struct {
		port  *cniv1.HostPort
		taken bool
	}{
		"the same":                 {hostPort(tcp, 8080, ""), true},
		"no protocol is TCP":       {hostPort(0, 8080, ""), true},
		"all addresses, said":      {hostPort(tcp, 8080, "0.0.0.0"), true},
		"one of all addresses":     {hostPort(tcp, 8080, "192.0.2.9"), true},
		"all addresses, one taken": {hostPort(tcp, 9090, ""), true},
		"the same address":         {hostPort(tcp, 9090, "192.0.2.1"), true},
		"another address":          {hostPort(tcp, 9090, "192.0.2.2"), false},
		"another protocol":         {hostPort(udp, 8080, ""), false},
		"another port":             {hostPort(tcp, 8081, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			second := owner(2)
			second.HostPorts = []*cniv1.HostPort{c.port}
			_, err := s.Allocate(subnet, second, lease.Wish{})
			if errors.Is(err, lease.ErrHostPortTaken) != c.taken || !c.taken && err != nil {
				t.Errorf("got error %v", err)
			}
			if err := s.Release(lease.KeyOf(second)); err != nil {
				t.Fatal(err)
			}
		})
	}
	third := allocate(t, s, 3, lease.Wish{})
	if _, err := s.Amend(lease.KeyOf(third), lease.Change{HostPorts: first.GetHostPorts()}); !errors.Is(err, lease.ErrHostPortTaken) {
		t.Errorf("amended to a taken port: %v", err)
	}
	if _, err := s.Amend(lease.KeyOf(first), lease.Change{HostPorts: []*cniv1.HostPort{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Amend(lease.KeyOf(third), lease.Change{HostPorts: []*cniv1.HostPort{hostPort(tcp, 8080, "")}}); err != nil {
		t.Errorf("the port that was given back: %v", err)
	}
	fourth := owner(4)
	fourth.HostPorts = []*cniv1.HostPort{hostPort(tcp, 8080, "")}
	if _, err := s.Allocate(subnet, fourth, lease.Wish{}); !errors.Is(err, lease.ErrHostPortTaken) {
		t.Errorf("the port that was amended: %v", err)
	}
	if err := s.Release(lease.KeyOf(third)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Allocate(subnet, fourth, lease.Wish{}); err != nil {
		t.Errorf("the port that was released: %v", err)
	}
}
