package traces

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sameMatch reports whether two matches, as ovs-ofctl writes them, take the same
// packets.
func sameMatch(a, b string) bool { return maps.Equal(matchMeaning(a), matchMeaning(b)) }

// matchMeaning is a match as fields with values in one form. A protocol's name is a
// field of its own without a value.
func matchMeaning(match string) map[string]string {
	fields := map[string]string{}
	for item := range strings.SplitSeq(match, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		if plain, found := fieldNames[name]; found {
			name = plain
		}
		if meaning := valueMeaning(value); meaning != everything {
			fields[name] = meaning
		}
	}
	if _, arp := fields["arp"]; arp {
		rename(fields, "nw_src", "arp_spa")
		rename(fields, "nw_dst", "arp_tpa")
	}
	return fields
}

// fieldNames are other names of the same field.
var fieldNames = map[string]string{
	"eth_src": "dl_src", "eth_dst": "dl_dst", "ip_src": "nw_src", "ip_dst": "nw_dst",
	"tcp_src": "tp_src", "tcp_dst": "tp_dst", "udp_src": "tp_src", "udp_dst": "tp_dst",
}

func rename(fields map[string]string, from, to string) {
	if value, found := fields[from]; found {
		delete(fields, from)
		fields[to] = value
	}
}

// everything is the meaning of a value that any packet has.
const everything = "0.0.0.0/0"

// valueMeaning writes a value in one form: numbers in decimal, addresses as
// prefixes without the bits that do not count.
func valueMeaning(value string) string {
	if number, err := strconv.ParseUint(value, 0, 64); err == nil {
		return strconv.FormatUint(number, 10)
	}
	if address, err := netip.ParseAddr(value); err == nil {
		return netip.PrefixFrom(address, address.BitLen()).String()
	}
	address, mask, masked := strings.Cut(value, "/")
	if !masked {
		return strings.ToLower(value)
	}
	if prefix, err := netip.ParsePrefix(value); err == nil {
		return prefix.Masked().String()
	}
	if bits, ok := maskBits(mask); ok {
		if prefix, err := netip.ParsePrefix(fmt.Sprintf("%s/%d", address, bits)); err == nil {
			return prefix.Masked().String()
		}
	}
	return strings.ToLower(value)
}

// maskBits counts the bits of a mask such as 255.252.0.0.
func maskBits(mask string) (int, bool) {
	address, err := netip.ParseAddr(mask)
	if err != nil || !address.Is4() {
		return 0, false
	}
	for bits := range 33 {
		if netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), bits).Masked().Addr() == address {
			return bits, true
		}
	}
	return 0, false
}

// sameActions reports whether two lists do the same, in the same order.
func sameActions(a, b []string) bool {
	return slices.Equal(actionMeanings(a), actionMeanings(b))
}

func actionMeanings(actions []string) []string {
	var meanings []string
	for _, action := range actions {
		if action != "drop" {
			meanings = append(meanings, actionMeaning(action))
		}
	}
	return meanings
}

var (
	assignment = regexp.MustCompile(`^(?:load|set_field):(.+)->(.+)$`)
	register   = regexp.MustCompile(`NXM_NX_REG(\d+)(?:\[\]|\[0\.\.31\])`)
)

// actionMeaning writes an action in one form: load and set_field are the same, and
// registers and numbers have one name each.
func actionMeaning(action string) string {
	action = register.ReplaceAllString(strings.TrimSpace(action), "reg$1")
	if found := assignment.FindStringSubmatch(action); found != nil {
		return "set:" + valueMeaning(found[1]) + "->" + found[2]
	}
	return action
}
