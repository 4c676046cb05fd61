package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// The result lists the node's end of the veth pair first, as the reference
// plugins do, and then the pod's.
const podInterface = 1

// resultOf makes a CNI result of the agent's answer.
func resultOf(r *cniv1.AddResponse) (*types100.Result, error) {
	a := r.GetAttachment()
	if len(a.GetIps()) != len(r.GetGateways()) {
		return nil, fmt.Errorf("%d addresses, but %d gateways", len(a.GetIps()), len(r.GetGateways()))
	}
	if len(a.GetIps()) == 0 {
		return nil, errors.New("no address")
	}
	mtu := int(r.GetMtu())
	result := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: a.GetHostVeth(), Mac: r.GetHostMac(), Mtu: mtu},
			{Name: a.GetIfname(), Mac: a.GetMac(), Mtu: mtu, Sandbox: a.GetNetns()},
		},
	}
	for i, text := range a.GetIps() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("address: %w", err)
		}
		gateway, err := netip.ParseAddr(r.GetGateways()[i])
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		result.IPs = append(result.IPs, &types100.IPConfig{
			Interface: types100.Int(podInterface),
			Address:   ipNet(prefix),
			Gateway:   gateway.AsSlice(),
		})
	}
	for _, given := range r.GetRoutes() {
		route, err := routeOf(given)
		if err != nil {
			return nil, err
		}
		result.Routes = append(result.Routes, route)
	}
	return result, nil
}

func routeOf(r *cniv1.Route) (*types.Route, error) {
	destination, err := netip.ParsePrefix(r.GetDestination())
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	route := &types.Route{Dst: ipNet(destination)}
	if r.GetGateway() != "" {
		gateway, err := netip.ParseAddr(r.GetGateway())
		if err != nil {
			return nil, fmt.Errorf("route to %s: %w", destination, err)
		}
		route.GW = gateway.AsSlice()
	}
	return route, nil
}

// ipNet keeps the host bits: a CNI address has them.
func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
