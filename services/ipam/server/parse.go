package server

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"regexp"
	"unicode"
	"unicode/utf8"

	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

const (
	// maxNodeName is the length of a DNS-1123 subdomain.
	maxNodeName = 253
	// maxUID is the API's bound, in characters.
	maxUID = 128
	// defaultPage and maxPage are the API's, in objects.
	defaultPage = 1000
	maxPage     = 5000
)

// dns1123 is a DNS-1123 subdomain, as Kubernetes names nodes.
var dns1123 = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func parseNode(name, field string, v *rpcerr.Violations) {
	switch {
	case name == "":
		v.Addf(field, "required")
	case len(name) > maxNodeName:
		v.Addf(field, "longer than %d characters", maxNodeName)
	case !dns1123.MatchString(name):
		v.Addf(field, "%q is not a DNS-1123 subdomain (lower case letters, digits, hyphens and dots)", name)
	}
}

func parseUID(uid, field string, v *rpcerr.Violations) {
	if n := utf8.RuneCountInString(uid); n > maxUID {
		v.Addf(field, "longer than %d characters", maxUID)
	}
	for _, r := range uid {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			v.Addf(field, "has a character that cannot be printed")
			return
		}
	}
}

func parseRegistration(request *ipamv1.AllocateHostSubnetRequest) (allocation.Registration, error) {
	var v rpcerr.Violations
	r := allocation.Registration{Node: request.GetNode(), UID: request.GetNodeUid()}
	parseNode(r.Node, "node", &v)
	if r.UID == "" {
		v.Addf("node_uid", "required")
	}
	parseUID(r.UID, "node_uid", &v)
	if n := len(request.GetHostIps()); n != 1 {
		v.Addf("host_ips", "%d addresses; exactly one is required today", n)
	}
	for i, text := range request.GetHostIps() {
		if ip, ok := parseHostIP(text, fmt.Sprintf("host_ips[%d]", i), &v); ok {
			r.HostIPs = append(r.HostIPs, ip)
		}
	}
	if n := len(request.GetRequestedSubnets()); n > 1 {
		v.Addf("requested_subnets", "%d subnets; a node has one today", n)
	}
	for i, text := range request.GetRequestedSubnets() {
		if p, ok := parseSubnet(text, fmt.Sprintf("requested_subnets[%d]", i), &v); ok {
			r.Wish = append(r.Wish, p)
		}
	}
	return r, v.Err(domain)
}

func parseHostIP(text, field string, v *rpcerr.Violations) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		v.Addf(field, "%q is not an address", text)
	case !ip.Is4():
		v.Addf(field, "%q is not IPv4, the only family today", text)
	case ip.IsUnspecified(), ip.IsLoopback(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		v.Addf(field, "%s cannot be the address of a node", ip)
	default:
		return ip, true
	}
	return netip.Addr{}, false
}

func parseSubnet(text, field string, v *rpcerr.Violations) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		v.Addf(field, "%q is not a subnet such as 10.128.0.0/23", text)
	case !p.Addr().Is4():
		v.Addf(field, "%q is not IPv4, the only family today", text)
	case p != p.Masked():
		v.Addf(field, "%q is not canonical: %q is", text, p.Masked())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

// page is a part of a list: at most size objects, after the named one.
type page struct {
	size  int
	after string
}

func parsePage(request *ipamv1.ListHostSubnetsRequest) (page, error) {
	var v rpcerr.Violations
	p := page{size: int(request.GetPageSize())}
	switch {
	case p.size == 0:
		p.size = defaultPage
	case p.size > maxPage:
		v.Addf("page_size", "%d is not within 1 to %d", p.size, maxPage)
	}
	after, err := base64.RawURLEncoding.DecodeString(request.GetPageToken())
	if err != nil {
		v.Addf("page_token", "%q is not from an answer", request.GetPageToken())
	}
	p.after = string(after)
	return p, v.Err(domain)
}

// token names the last object of a page.
func token(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
