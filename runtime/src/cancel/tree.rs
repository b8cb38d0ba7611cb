//! Who stands below whom: a forest in one dense array, with every step but the walk over a subtree of constant cost.
//!
//! # Problem
//! To cancel is to find all descendants. A parent that outlives a million children must forget each of them, a chain of a
//! hundred thousand must not be walked by recursion, and what a burst took must be given back.
//!
//! # Idea
//! Nodes lie in a `Vec` without holes and name each other by place. What leaves is replaced by the last one, which is told
//! its new place; an array of which little is used becomes smaller. A node points to its first child, to its next sibling,
//! and *before* itself: to the sibling there, or, if it is the first, to its parent. So at most three point at a node, and
//! it can be moved by three writes.
//!
//! ```text
//!        a                 a.first = b
//!      ↗ ↓                 b.before = a   b.next = c
//!       b ⇄ c ⇄ d          c.before = b   c.next = d
//! ```
//!
//! A node whose member has left stays only while it holds two children or more apart from others. With one, the child
//! takes its place.
//!
//! # Invariants
//! - [TREE-1] A node without a member has at least two children. So there are fewer of them than of members, whatever was
//!   added and has left: a chain whose middle is gone is one link.
//! - [TREE-2] Each member knows its place, and no place is a hole.
//!
//! # Rejected
//! - Children as a `Vec` in each node: it keeps the capacity of a burst, and a member that leaves moves all its children.
//! - Places that stay, with a list of free ones: one late node keeps the memory of all before it.
//! - Maps by number: as short, but several times the memory and the time.
//!
//! # Read next
//! `../cancel.rs`, the only one that uses it.

/// What stands in a tree, and is told where.
pub(super) trait Member {
    fn place(&self) -> u32;
    fn set_place(&self, place: u32);
}

/// No place.
pub(super) const NOWHERE: u32 = u32::MAX;

/// An array becomes smaller when less than a quarter of it is used, but not below so many nodes.
const KEPT: usize = 8;

#[derive(Debug)]
pub(super) struct Tree<M> {
    nodes: Vec<Node<M>>,
}

#[derive(Debug)]
struct Node<M> {
    /// None if it has left.
    member: Option<M>,
    /// The sibling before this one, or the parent of the first; a root has neither.
    before: u32,
    next: u32,
    first: u32,
}

impl<M: Member> Tree<M> {
    /// A tree of one.
    pub(super) fn new(root: M) -> Self {
        let mut tree = Self { nodes: Vec::with_capacity(1) };
        root.set_place(0);
        tree.nodes.push(Node { member: Some(root), before: NOWHERE, next: NOWHERE, first: NOWHERE });
        tree
    }

    /// Puts `member` below the one at `parent`.
    pub(super) fn add(&mut self, parent: u32, member: M) {
        let place = u32::try_from(self.nodes.len()).ok().filter(|&place| place != NOWHERE);
        let place = place.expect("fewer than 2^32 tokens in one tree");
        let next = self.at(parent).first;
        member.set_place(place);
        self.nodes.push(Node { member: Some(member), before: parent, next, first: NOWHERE });
        self.at(parent).first = place;
        if next != NOWHERE {
            self.at(next).before = place;
        }
    }

    /// Takes the member at `place` out; who stands below it stands below who is above it.
    ///
    /// It is given back, so that the caller says where it is dropped.
    pub(super) fn leave(&mut self, place: u32) -> Option<M> {
        let member = self.at(place).member.take();
        let first = self.at(place).first;
        if first == NOWHERE {
            self.cut(place);
        } else if self.at(first).next == NOWHERE {
            self.put_instead(place, first);
            self.remove(place);
        }
        // Or it stays, without its member: [TREE-1].
        member
    }

    /// Takes the member at `place` and all below it out, and hands each to `out`, always before those above it.
    pub(super) fn take_all(&mut self, place: u32, mut out: impl FnMut(M)) {
        let (mut top, mut at) = (place, place);
        loop {
            while self.at(at).first != NOWHERE {
                at = self.at(at).first;
            }
            // A leaf, and the first of its siblings.
            let Node { next, before, .. } = *self.at(at);
            if let Some(member) = self.at(at).member.take() {
                out(member);
            }
            if at == top {
                return self.cut(at);
            }
            self.put_instead(at, NOWHERE);
            let moved = self.remove(at);
            let now = |place| if place == moved { at } else { place };
            top = now(top);
            at = now(if next == NOWHERE { before } else { next });
        }
    }

    fn at(&mut self, place: u32) -> &mut Node<M> {
        &mut self.nodes[place as usize]
    }

    /// Takes a leaf out, and the node above it if [TREE-1] has no use for that any more.
    fn cut(&mut self, leaf: u32) {
        let Node { before, next, .. } = *self.at(leaf);
        let was_first = before != NOWHERE && self.at(before).first == leaf;
        self.put_instead(leaf, NOWHERE);
        // Who may be the only child now, and its parent.
        let child = if was_first { next } else { before };
        if child != NOWHERE && self.at(child).next == NOWHERE {
            let parent = self.at(child).before;
            if parent != NOWHERE && self.at(parent).first == child && self.at(parent).member.is_none() {
                self.put_instead(parent, child);
                // The later one first: the other keeps its place meanwhile.
                self.remove(parent.max(leaf));
                self.remove(parent.min(leaf));
                return;
            }
        }
        self.remove(leaf);
    }

    /// Whoever points to the node at `old`, other than its children, points to the one at `new` instead: its only child, or
    /// nobody.
    fn put_instead(&mut self, old: u32, new: u32) {
        let Node { before, next, .. } = *self.at(old);
        let (left, right) = if new == NOWHERE { (next, before) } else { (new, new) };
        if before != NOWHERE {
            let node = self.at(before);
            *if node.first == old { &mut node.first } else { &mut node.next } = left;
        }
        if next != NOWHERE {
            self.at(next).before = right;
        }
        if new != NOWHERE {
            let node = self.at(new);
            (node.before, node.next) = (before, next);
        }
    }

    /// Removes a node to which nobody points; the last one takes its place. Returns where that was.
    fn remove(&mut self, place: u32) -> u32 {
        self.nodes.swap_remove(place as usize);
        let last = self.nodes.len() as u32;
        if place != last {
            // [TREE-2]
            let Node { before, next, first, .. } = *self.at(place);
            if before != NOWHERE {
                let node = self.at(before);
                *if node.first == last { &mut node.first } else { &mut node.next } = place;
            }
            if next != NOWHERE {
                self.at(next).before = place;
            }
            if first != NOWHERE {
                self.at(first).before = place;
            }
            if let Some(member) = &self.at(place).member {
                member.set_place(place);
            }
        }
        if self.nodes.capacity() > KEPT && self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
        last
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Token(u32, Rc<Cell<u32>>);

    impl Token {
        fn new(name: u32) -> Token {
            Token(name, Rc::new(Cell::new(NOWHERE)))
        }
    }

    impl Member for Token {
        fn place(&self) -> u32 {
            self.1.get()
        }

        fn set_place(&self, place: u32) {
            self.1.set(place);
        }
    }

    /// All nodes are reached once, by pointers that agree, and no memory is kept.
    fn check(tree: &mut Tree<Token>, members: &BTreeMap<u32, Token>) {
        let nodes = &tree.nodes;
        let mut with_member = 0;
        let mut pointed_at = vec![0; nodes.len()];
        for (place, node) in nodes.iter().enumerate() {
            let place = place as u32;
            if node.first != NOWHERE {
                assert_eq!(nodes[node.first as usize].before, place);
                pointed_at[node.first as usize] += 1;
            }
            if node.next != NOWHERE {
                assert_eq!(nodes[node.next as usize].before, place);
                pointed_at[node.next as usize] += 1;
            }
            match &node.member {
                Some(member) => {
                    assert_eq!(member.place(), place, "[TREE-2]");
                    with_member += 1;
                }
                None => assert_ne!(nodes[node.first as usize].next, NOWHERE, "[TREE-1]"),
            }
        }
        for (node, pointed_at) in nodes.iter().zip(pointed_at) {
            assert_eq!(pointed_at, u32::from(node.before != NOWHERE));
        }
        assert_eq!(with_member, members.len());
        assert!(nodes.len() <= (2 * with_member).saturating_sub(1), "[TREE-1]");
        assert!(nodes.capacity() <= KEPT || nodes.capacity() / 4 <= nodes.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn it_agrees_with_parents_in_a_map(steps in prop::collection::vec((0..10_u8, any::<prop::sample::Index>()), 1..120)) {
            // The model: who is whose parent, whether the parent is there still or not.
            let root = Token::new(0);
            let mut tree = Tree::new(root.clone());
            let mut members = BTreeMap::from([(0, root)]);
            let mut parents = BTreeMap::from([(0, None)]);
            for (name, (step, which)) in (1..).zip(steps) {
                if members.is_empty() {
                    break;
                }
                let who = *members.keys().nth(which.index(members.len())).unwrap();
                match step {
                    0..6 => {
                        let token = Token::new(name);
                        tree.add(members[&who].place(), token.clone());
                        members.insert(name, token);
                        parents.insert(name, Some(who));
                    }
                    6..9 => {
                        let left = tree.leave(members[&who].place()).unwrap();
                        prop_assert_eq!(left.0, who);
                        members.remove(&who);
                    }
                    _ => {
                        let is_below = |name: u32| {
                            std::iter::successors(Some(name), |name| parents[name]).any(|above| above == who)
                        };
                        let expected: Vec<u32> = members.keys().copied().filter(|&name| is_below(name)).collect();
                        let mut taken = Vec::new();
                        tree.take_all(members[&who].place(), |token| taken.push(token.0));
                        for (at, &name) in taken.iter().enumerate() {
                            let mut above = std::iter::successors(parents[&name], |name| parents[name]);
                            prop_assert!(above.all(|above| !taken[..at].contains(&above)), "those below come first");
                        }
                        taken.sort_unstable();
                        prop_assert_eq!(&taken, &expected);
                        members.retain(|name, _| !taken.contains(name));
                    }
                }
                check(&mut tree, &members);
            }
        }
    }
}
