package nftables

import (
	"net"

	"github.com/google/nftables/expr"
)

// balance is the scope's chain that leads each frontend to the chain of its choice.
// The choices that some service has are given in order. So a new connection's cost
// follows how many different numbers of backends there are, not how many services.
func balance(s scope, choices []choice) chain {
	made := chain{name: s.balance()}
	for _, kind := range []frontendKind{ofAddress, ofNode} {
		for _, c := range choices {
			if c.scope == s {
				made.rules = append(made.rules, when("by the number of backends", member(c.name(), kind), expressions{goTo(c.name())}))
			}
		}
	}
	return made
}

// balances are the balance chains of all scopes.
func balances(choices []choice) []chain {
	var all []chain
	for _, s := range scopes() {
		all = append(all, balance(s, choices))
	}
	return all
}

// choosing is the chain that chooses one of a number of backends. All frontends that
// have as many backends, and as long an affinity, share it.
func choosing(c choice) chain {
	made := chain{name: c.name()}
	if c.affinity > 0 {
		made.rules = append(made.rules, again(c, ofAddress), again(c, ofNode), first(c, ofAddress), first(c, ofNode))
	}
	// Also behind the rules above, for when affinity is full.
	made.rules = append(made.rules,
		drawn(c, "one of all", c.count, ofAddress), drawn(c, "one of all", c.count, ofNode),
		// Between finding the number of backends and finding the backend they can have
		// become fewer. The first one is there as long as there is any.
		drawn(c, "fewer by now", 1, ofAddress), drawn(c, "fewer by now", 1, ofNode))
	return made
}

// drawn sends a connection to one of the first count backends.
func drawn(c choice, about string, count int, kind frontendKind) rule {
	return when(about, loadFrontend(r(0), kind), expressions{
		draw(c.scope.base, count, r(3)), find(setBackends, r(0), r(4)), translate(r(4))})
}

// again sends a client to the backend that it had, if that is still a backend. In the
// end backend, identity and client address lie in registers 3 to 7, so that backend and
// identity are one key, and identity and client address another.
func again(c choice, kind frontendKind) rule {
	return when("the backend as before", loadClient(r(4), kind), expressions{
		find(setSticky, r(5), r(5)), load(offsetSource, r(7)), find(setAffinity, r(5), r(3)), contains(c.scope.affine(), r(3)),
		remember(r(5), r(3), c.affinity), translate(r(3))})
}

// first draws a backend for a client and remembers it.
func first(c choice, kind frontendKind) rule {
	return when("one of all, remembered", loadClient(r(4), kind), expressions{
		draw(c.scope.base, c.count, r(8)), find(setBackends, r(5), r(0)), find(setSticky, r(5), r(5)), load(offsetSource, r(7)),
		remember(r(5), r(0), c.affinity), translate(r(0))})
}

// loadClient fills four registers with the client's address and the frontend. Both
// addresses are loaded at once, as they lie in the packet. That is for nft's sake: it
// (1.0.6) ends in an assertion when it lists a rule that looks up what a map gave. Of
// what was loaded at once it does not know the second half, so it cannot follow the
// rule from there on, and shows what it can.
func loadClient(to register, kind frontendKind) expressions {
	const both = 2 * net.IPv4len
	list := expressions{&expr.Payload{DestRegister: uint32(to), Base: expr.PayloadBaseNetworkHeader, Offset: offsetSource, Len: both}}
	if kind == ofNode {
		list = append(list, &expr.Bitwise{SourceRegister: uint32(to), DestRegister: uint32(to), Len: both,
			Mask: append(net.CIDRMask(net.IPv4len*8, net.IPv4len*8), make([]byte, net.IPv4len)...), Xor: make([]byte, both)})
	}
	return append(list, loadFrontend(to+1, ofAddress)[1:]...)
}
