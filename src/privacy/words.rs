//! The words that stand in for words: short, concrete, one or two tokens to usual tokenizers, and none of the most frequent.
//!
//! A longer word is put together of two or more of them.

use crate::privacy::draw::Draw;

/// Lengths of the lists below.
const SHORTEST: usize = 3;
const LONGEST: usize = SHORTEST + WORDS.len() - 1;

/// Appends a lower-case word of `len` letters to `out`.
pub(super) fn word(len: usize, draw: &mut Draw, out: &mut String) {
    let mut left = len;
    while left > LONGEST {
        // What is left must be long enough for a word, too.
        let most = LONGEST.min(left - SHORTEST);
        let part = SHORTEST + draw.below(most - SHORTEST + 1);
        out.push_str(listed(part, draw));
        left -= part;
    }
    if left >= SHORTEST {
        out.push_str(listed(left, draw));
        return;
    }
    for at in 0..left {
        let letters: &[u8] = if at % 2 == 0 { b"bcdfghjklmnpqrstvwxz" } else { b"aeiouy" };
        out.push(char::from(letters[draw.below(letters.len())]));
    }
}

/// Returns a word of a length that has a list.
fn listed(len: usize, draw: &mut Draw) -> &'static str {
    let words = WORDS[len - SHORTEST];
    // Each word is followed by a space.
    let at = draw.below(words.len() / (len + 1)) * (len + 1);
    &words[at..at + len]
}

/// The words of three letters, of four, and so on, each followed by a space.
const WORDS: [&str; 6] = [
    "ant ape awl axe bat bee bib bog bud bun cab cob cod cot cub dew dye eel elk elm emu ewe fig fin fir \
     fog fox gem gnu gum ham hen hoe hog hub hut ice imp ink inn ivy jam jar jaw jug keg kit lid lip log \
     mop mud mug nut oak oar oat orb ore owl pan paw pea peg pew pie pod pug rag ram rib rig rim rod rug \
     rum rye sap saw ski sky sod sow tab tar tin toe tub tug urn van vat vet wax web wig yak yam zip ",
    "acre arch atom axle band barn bead beak beam bean bear beet bell belt bird boar boat bolt bone boot \
     bowl bulb bull bush cake calf cape carp cart cave clam claw clay coal coat coil coin comb cone cord \
     cork corn crab crow cube dawn deer desk dice disc dock doll dome door dove drum duck dusk dust fawn \
     fern fish flag flax flea foal foam fork frog fuse gate gear goat gong gown hare harp hawk heel helm \
     herb hive hoof hook horn hose iris isle jade kelp kiln kite knot lace lake lamb lamp lark lava leaf \
     leek lens lily lime lion loaf loom lynx malt mane mare mask mast maze mill mint mole moon moss moth \
     mule myth nest newt oboe onyx oven palm pane pear peel pier pill pine pipe plum pond pony pump quay \
     raft rail rake reed reef rein ring robe rock roof rope rose ruby sail salt sand seal seed silk sink \
     sled slug snow soap sock sofa soup star stem surf swan tail tent tide tile toad tusk vase veil vest \
     vine wasp wave weed well whip wick wing wolf wood wool worm wren yarn yolk zinc ",
    "acorn adobe agate alder amber anvil apple apron arrow aspen attic badge bagel banjo basil basin \
     beach berry birch bison blade blaze bloom board brace brick brook broom brush cabin cable camel \
     candy canoe cedar chain chalk charm chest chick cider cliff cloak clock cloud clove cocoa coral \
     crane crate creek crown crumb daisy diver dough drake eagle easel ember fairy feast fence ferry \
     fjord flame flask fleet flint flute forge frost fruit gecko geese ghost glass globe glove goose \
     gourd grain grape grass gravy groom grove guava hazel hedge heron honey horse hound house igloo \
     ivory jelly jewel juice kayak knife koala ladle larch latch lemon lilac linen llama lodge lotus \
     lunar mango manor maple marsh medal melon merit metal mocha moose motor mound mouse music nurse \
     ocean olive onion opera orbit otter paint panda paper patio peach pearl pecan petal piano pilot \
     pinto pixel plank plaza poppy prism pulse puppy quail queen quill quilt radio raven ridge river \
     robin rodeo rumba saber salad satin scale scarf sheep shelf shell shirt shore shrub siren skate \
     slate sloth smoke snail snake spade spark spear spice spoon spray squid stamp steam steel stone \
     stool stork storm straw sugar swamp sword syrup table thorn tiger toast tooth torch towel tower \
     trail train trout trunk tulip tunic tweed vault villa viola viper wagon waltz whale wheat wheel \
     yacht zebra ",
    "almond anchor badger bakery ballet balsam bamboo banana banner barley barrel basket beacon beaver \
     beetle bishop blazer bonnet bottle branch breeze bridge bronze bubble bucket buckle butter button \
     cactus camera canary candle cannon canyon carpet carrot castle cattle cavern celery cellar cement \
     cheese cherry chisel cinder circus citrus cobalt cobweb coffee collar copper cotton cougar cradle \
     crater crayon cruise cymbal dagger dahlia desert dragon drawer engine fabric falcon ferret fiddle \
     finger flower fodder forest fossil funnel galley garage garden garlic garnet geyser ginger glider \
     goblet gopher gravel grotto guitar hamlet hammer harbor helmet hermit hornet indigo island jacket \
     jaguar jersey jungle kennel kernel kettle kitten ladder lagoon laurel lichen lizard locket locust \
     magnet magpie mallet mantle marble marina meadow mirror mitten monkey mosaic muffin musket mussel \
     napkin nectar needle nickel nugget nutmeg orchid osprey oyster paddle pagoda palace parade parrot \
     pastry pebble pencil pepper petrol picnic pigeon pillow piston planet plough pocket pollen poplar \
     potato puddle puffin pulley puppet python quarry quartz rabbit raisin ravine ribbon rocket saddle \
     salmon sandal scarab scroll shovel shrimp shrine silver sleigh socket spider spiral sponge spruce \
     squash stable statue string summit sunset tablet tavern teapot temple thread throne timber toffee \
     tomato trophy trowel tundra tunnel turban turkey turnip turtle tuxedo valley vapour velvet violet \
     violin walnut walrus weasel willow window winter zephyr zigzag zipper ",
    "acrobat apricot arsenal asphalt avocado bagpipe balcony balloon bassoon bathtub bedrock biscuit \
     blanket blossom bonfire bouquet bracken bramble buffalo cabbage candles canteen captain caravan \
     cardiac catfish ceramic chamber channel chapels chariot cheetah chimney chisels citadel clipper \
     cobbler coconut compass comrade cottage crimson crystal cupcake curtain cushion cyclone diamond \
     dolphin doorway drizzle eclipse emerald factory feather firefly foghorn fritter furnace gallery \
     gazelle giraffe glacier gondola gorilla granite griddle hammock handbag harvest hatchet hemlock \
     herring hickory iceberg kestrel lagoons lantern leather leopard lettuce library lobster machete \
     mammoth mansion mustard nostril notepad oatcake oatmeal octopus orchard ostrich panther papyrus \
     parsley peacock peanuts pelican pendant penguin phoenix picture pilgrim platter popcorn poultry \
     pretzel pumpkin pyramid raccoon rainbow rooster saffron sailors sapling sardine satchel saucers \
     sausage scallop scarlet seaweed shutter skillet slipper spaniel sparrow spinach stadium starlet \
     statues sunbeam swallow tadpole teacups thistle thunder toaster tractor trestle trinket trumpet \
     tugboat turbine unicorn upright vanilla varnish village vinegar volcano vulture walkway warbler \
     warship weather whisker whistle windows ",
    "airplane alphabet antelope aquarium armchair backpack bagpipes bandanna barnacle basement bluebell \
     bluebird boulders bracelet broccoli calendar campfire canister cardigan carousel cashmere catapult \
     cauldron chipmunk cinnamon clarinet cloister clothing coachman computer corduroy cornmeal crescent \
     cucumber cupboard daffodil doorbell doorknob dumpling elephant envelope espresso eyeglass feathers \
     festival filament fireclay firewood flamingo foothill fountain foxglove gardenia gasoline gemstone \
     geranium goldfish hacienda hedgehog hibiscus highland honeybee hydrogen keyboard ladybird lavender \
     lemonade limerick lipstick magnolia mandolin marigold marzipan meringue minstrel molecule mongoose \
     monument mosquito mountain mushroom necklace nightcap notebook obsidian odometer omelette overcoat \
     paintbox pamphlet pancakes parakeet parasols pavilion pinecone pinwheel platypus plumbing porpoise \
     postcard primrose raindrop rainfall reindeer rosemary sandwich sapphire sawmills scabbard scallops \
     scorpion seahorse shamrock shepherd skeleton skylight snowball snowdrop snowfall songbird starfish \
     starling stingray sunlight sunshade sycamore tapestry teaspoon terrapin terriers tortoise treasure \
     triangle trombone tungsten turmeric umbrella vineyard warthogs waterway wildfire windmill woodland \
     woodwind yearbook zucchini ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_hold_words_of_their_length_sorted_and_enough_of_them() {
        for (idx, words) in WORDS.iter().enumerate() {
            let len = SHORTEST + idx;
            let words: Vec<_> = words.split_terminator(' ').collect();
            assert!(words.len() >= 90, "{len}: {}", words.len());
            assert!(words.iter().all(|word| word.len() == len), "{len}");
            assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
            assert!(words.windows(2).all(|pair| pair[0] < pair[1]), "{len}");
        }
    }

    #[test]
    fn a_word_has_the_length_asked_for() {
        for len in 0..40 {
            let mut draw = Draw::new(&[1; 32], &[&[u8::try_from(len).unwrap()]]);
            let mut out = String::new();
            word(len, &mut draw, &mut out);
            assert_eq!(out.len(), len);
        }
    }
}
