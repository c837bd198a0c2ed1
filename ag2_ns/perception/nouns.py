"""Nouns of everyday and street things, by domain: what a tagger without captions may call a thing.

Written for this package; singular, lower case. `NOUNS` joins them without repeats, in this order.
"""

from __future__ import annotations

DOMAINS: dict[str, str] = {
    "kitchen": """
        mug, cup, teacup, glass, wine glass, beer glass, tumbler, goblet, jug, pitcher, carafe, decanter, bottle,
        water bottle, wine bottle, beer bottle, milk bottle, thermos, flask, can, tin, jar, jam jar, cookie jar, lid,
        bowl, salad bowl, mixing bowl, plate, dinner plate, dish, saucer, platter, tray, cake stand, egg cup, teapot,
        coffee pot, kettle, coffee maker, espresso machine, coffee grinder, french press, toaster, toaster oven, oven,
        microwave, stove, cooktop, gas burner, range hood, refrigerator, freezer, dishwasher, kitchen sink, faucet,
        dish rack, dish soap, sponge, scouring pad, dish towel, oven mitt, apron, pot, saucepan, stockpot, frying pan,
        wok, griddle, casserole, baking dish, baking sheet, muffin tin, cake pan, rolling pin, whisk, spatula, ladle,
        colander, sieve, strainer, grater, peeler, can opener, bottle opener, corkscrew, tongs, knife, kitchen knife,
        bread knife, cleaver, fork, spoon, teaspoon, tablespoon, chopsticks, wooden spoon, measuring cup,
        measuring spoon, kitchen scale, timer, mortar, pestle, cutting board, bread box, spice rack, salt shaker,
        pepper mill, sugar bowl, butter dish, creamer, napkin, napkin holder, paper towel, tablecloth, placemat,
        coaster, blender, mixer, food processor, juicer, rice cooker, slow cooker, air fryer, waffle iron, ice bucket,
        ice cube tray, lunch box, food container, plastic wrap, aluminium foil, drinking straw, toothpick, skewer,
        cupboard, kitchen cabinet, pantry, countertop, kitchen island, bar stool, high chair, trash can, recycling bin,
        pizza cutter, garlic press, funnel, pot holder, trivet, tea strainer, cocktail shaker, wine rack, knife block
    """,
    "food": """
        apple, banana, orange, lemon, lime, grapefruit, pear, peach, plum, apricot, cherry, strawberry, raspberry,
        blueberry, blackberry, grape, melon, watermelon, pineapple, mango, papaya, kiwi, coconut, fig, date,
        pomegranate, avocado, tomato, potato, sweet potato, carrot, onion, garlic, ginger, leek, celery, cucumber,
        zucchini, eggplant, bell pepper, chili pepper, pumpkin, squash, corn, pea, bean, lentil, lettuce, cabbage,
        spinach, kale, broccoli, cauliflower, artichoke, asparagus, radish, beet, turnip, mushroom, olive, pickle,
        bread, loaf, baguette, bun, bagel, roll, toast, croissant, pretzel, sandwich, burger, hot dog, pizza, taco,
        burrito, pasta, spaghetti, noodle, ramen, rice, sushi, dumpling, soup, stew, salad, steak, sausage, bacon, ham,
        chicken leg, meatball, fish fillet, shrimp, lobster, crab, egg, fried egg, omelette, cheese, butter, yogurt,
        milk, cream, ice cream, popsicle, cake, birthday cake, cupcake, muffin, pie, tart, doughnut, cookie, brownie,
        biscuit, pancake, waffle, chocolate, candy, lollipop, chewing gum, marshmallow, popcorn, chips, cracker, nut,
        almond, walnut, peanut, cereal, oatmeal, honey, jam, syrup, sugar, salt, pepper, spice, herb, parsley, basil,
        vinegar, ketchup, mustard, mayonnaise, sauce, coffee, tea, juice, soda, beer, wine, cocktail, smoothie
    """,
    "furniture": """
        chair, armchair, rocking chair, office chair, folding chair, deck chair, dining chair, wheelchair, stool,
        footstool, ottoman, pouf, bench, couch, sofa, loveseat, sofa bed, futon, recliner, bean bag, table,
        dining table, coffee table, side table, end table, night stand, desk, writing desk, computer desk, workbench,
        dresser, chest of drawers, drawer, wardrobe, closet, cabinet, filing cabinet, display cabinet, sideboard,
        bookcase, bookshelf, shelf, rack, shoe rack, coat rack, hat stand, umbrella stand, magazine rack, tv stand,
        bed, bunk bed, crib, cradle, hammock, mattress, headboard, pillow, cushion, blanket, quilt, duvet, bed sheet,
        bedspread, curtain, drape, blind, window shade, curtain rod, rug, carpet, doormat, bath mat, mirror,
        picture frame, painting, poster, photograph, wall clock, grandfather clock, alarm clock, lamp, table lamp,
        desk lamp, floor lamp, ceiling lamp, chandelier, lampshade, light bulb, lantern, candle, candlestick,
        candle holder, vase, flowerpot, planter, fireplace, mantelpiece, radiator, heater, fan, ceiling fan,
        air conditioner, humidifier, room divider, screen, tablet stand, storage box, basket, laundry basket, hamper,
        trunk, chest, safe, ladder, step stool, ironing board, coat hanger, hook, door knob, door handle, key rack
    """,
    "building": """
        door, sliding door, glass door, gate, garage door, window, skylight, shutter, window sill, wall, brick wall,
        floor, wooden floor, tile, ceiling, beam, column, pillar, arch, stairs, staircase, step, handrail, banister,
        balcony, terrace, porch, veranda, roof, gutter, drainpipe, chimney, antenna, satellite dish, solar panel,
        awning, canopy, facade, doorway, hallway, corridor, elevator, escalator, building, house, cottage, cabin, hut,
        shed, barn, garage, greenhouse, apartment building, office building, skyscraper, tower, church, chapel,
        cathedral, mosque, temple, synagogue, castle, palace, fort, school, hospital, library, museum, theatre, cinema,
        restaurant, cafe, bar, shop, supermarket, market stall, kiosk, bank, post office, hotel, factory, warehouse,
        gas station, train station, bus station, airport, stadium, gym, swimming pool, fountain, statue, monument,
        memorial, sculpture, obelisk, well, windmill, water tower, silo, lighthouse, bridge, footbridge, overpass,
        tunnel, dam, pier, dock, ruin, tent, gazebo, pavilion, pergola, scaffold, crane, construction site, brick,
        plank, pipe, cable, wire, power outlet, light switch, fuse box, thermostat, smoke detector, fire alarm,
        fire extinguisher, sprinkler, intercom, doorbell, mail slot, vent, duct, insulation, plaster, concrete block
    """,
    "bathroom": """
        toilet, toilet seat, toilet paper, toilet brush, plunger, bathtub, shower, shower curtain, shower head, sink,
        washbasin, tap, soap, soap dish, soap dispenser, shampoo bottle, conditioner bottle, towel, towel rail,
        bathrobe, washcloth, loofah, toothbrush, toothpaste, toothbrush holder, mouthwash, dental floss, razor,
        shaving cream, hair dryer, hairbrush, comb, hair clip, hair tie, nail clipper, nail polish, tweezers, lipstick,
        perfume, makeup brush, cotton swab, cotton ball, tissue box, bathroom scale, medicine cabinet, pill bottle,
        bandage, first aid kit, thermometer, syringe, bidet, urinal, hand dryer, washing machine, dryer, detergent,
        bleach bottle, spray bottle, bucket, mop, broom, dustpan, feather duster, vacuum cleaner, rag, squeegee,
        clothesline, clothespin, drying rack, iron, laundry
    """,
    "clothing": """
        shirt, t-shirt, blouse, sweater, hoodie, cardigan, vest, jacket, coat, raincoat, suit, tie, bow tie, dress,
        skirt, trousers, jeans, shorts, leggings, tights, sock, underwear, bra, swimsuit, bikini, pyjamas, robe,
        uniform, costume, belt, buckle, button, zipper, scarf, shawl, glove, mitten, hat, cap, baseball cap, beanie,
        helmet, hard hat, bicycle helmet, crown, tiara, veil, hood, mask, shoe, sneaker, boot, rain boot, sandal,
        slipper, high heel, shoelace, backpack, handbag, purse, wallet, suitcase, briefcase, duffel bag, shopping bag,
        plastic bag, paper bag, tote bag, pouch, umbrella, cane, glasses, sunglasses, goggles, watch, wristwatch,
        bracelet, necklace, earring, ring, brooch, pendant, handkerchief, safety vest, life jacket, fabric
    """,
    "office": """
        book, open book, notebook, notepad, magazine, newspaper, comic book, dictionary, album, diary, calendar,
        envelope, letter, postcard, stamp, paper, sheet of paper, sticky note, folder, binder, clipboard, document,
        map, globe, pen, ballpoint pen, fountain pen, pencil, colored pencil, crayon, marker, highlighter, chalk,
        eraser, pencil sharpener, pencil case, pencil cup, ruler, compass, protractor, set square, scissors, stapler,
        paper clip, hole punch, rubber band, tape, tape dispenser, glue stick, paperweight, pushpin, thumbtack,
        bulletin board, whiteboard, blackboard, easel, canvas, paint, paintbrush, paint can, palette, desk organizer,
        letter tray, calculator, abacus, typewriter, shredder, laminator, cash register, barcode scanner, credit card,
        coin, banknote, piggy bank, key, keychain, lock, padlock, name tag, business card, rubber stamp, flag, banner,
        trophy, medal, certificate, magnifying glass, hourglass, lectern, filing box, cardboard box, package, parcel
    """,
    "electronics": """
        computer, desktop computer, laptop, tablet, monitor, computer screen, keyboard, computer mouse, mouse pad,
        trackpad, webcam, microphone, speaker, loudspeaker, soundbar, headphones, earphones, headset, charger,
        power strip, extension cord, plug, adapter, battery, power bank, usb stick, hard drive, memory card, router,
        modem, server, server rack, printer, scanner, copier, projector, projector screen, television, remote control,
        game console, game controller, joystick, virtual reality headset, camera, video camera, security camera, lens,
        tripod, flashlight, torch, radio, record player, vinyl record, cassette, cd, dvd, dvd player, mp3 player,
        amplifier, telephone, mobile phone, smartphone, phone case, walkie-talkie, fax machine, digital clock,
        stopwatch, robot, robot arm, drone, robot vacuum, circuit board, microchip, sensor, switch, button panel,
        control panel, oscilloscope, soldering iron, telescope, microscope, binoculars, metronome, electric fan,
        electric shaver, vending machine, ticket machine, cash machine, parking meter, slot machine, jukebox
    """,
    "tools": """
        hammer, mallet, screwdriver, wrench, spanner, pliers, saw, hand saw, chainsaw, axe, hatchet, chisel, file,
        drill, drill bit, screw, nail, bolt, wing nut, washer, hinge, bracket, clamp, vise, level, tape measure,
        toolbox, tool belt, crowbar, pickaxe, shovel, spade, rake, hoe, pitchfork, trowel, wheelbarrow, garden hose,
        watering can, lawn mower, hedge trimmer, leaf blower, pruning shears, sprinkler head, sandpaper, paint roller,
        putty knife, caulking gun, staple gun, rope, chain, string, twine, tarp, sawhorse, sledgehammer, anvil, forge,
        grinder, lathe, welding mask, work glove, jack, tire pump, oil can, jerrycan, gas cylinder, barrel, drum, crate,
        pallet, forklift, hand truck, trolley, cart, shopping cart, luggage cart, dolly, winch, pulley, tow hook,
        generator, compressor, pump, engine, motor, gear, propeller, spring, magnet, wire cutter, blowtorch, plumb bob,
        sewing machine, needle, thread, spool, yarn, ball of yarn, knitting needle, thimble, safety pin, tailor dummy
    """,
    "toys": """
        toy, doll, teddy bear, stuffed animal, plush rabbit, action figure, figurine, toy car, toy truck, toy train,
        toy airplane, toy boat, toy robot, toy gun, toy soldier, toy house, dollhouse, building block, block tower,
        lego brick, lego house, puzzle, puzzle piece, rubik's cube, dice, domino, chessboard, chess piece, board game,
        playing card, marble, top, yo-yo, kite, balloon, ball, beach ball, bouncy ball, rubber duck, ring stack,
        stacking ring, ball pyramid, snowman, rocket, toy rocket, spaceship, dinosaur, dinosaur toy, unicorn, dragon,
        puppet, marionette, jack-in-the-box, rattle, pacifier, baby bottle, stroller, playpen, slide, swing, seesaw,
        sandbox, merry-go-round, trampoline, climbing frame, monkey bars, tricycle, scooter, skateboard, roller skate,
        hula hoop, jump rope, frisbee, boomerang, water gun, play dough, gift, gift box, ribbon, bow, party hat,
        christmas tree, christmas ornament, wreath, garland, jack-o'-lantern, firework, confetti, piñata, easter egg
    """,
    "sports": """
        football, soccer ball, basketball, volleyball, tennis ball, baseball, golf ball, ping pong ball, bowling ball,
        bowling pin, rugby ball, cricket bat, baseball bat, baseball glove, hockey stick, puck, tennis racket,
        badminton racket, shuttlecock, golf club, golf bag, net, goal, basketball hoop, table tennis table,
        billiard table, pool cue, billiard ball, dartboard, dart, archery bow, target, boxing glove, punching bag,
        dumbbell, barbell, kettlebell, weight plate, weight bench, treadmill, exercise bike, rowing machine, yoga mat,
        exercise ball, resistance band, ski, ski pole, ski boot, snowboard, sled, ice skate, surfboard, paddle, oar,
        canoe, kayak, rowing boat, sailboat, diving mask, snorkel, flipper, fishing rod, fishing net, fishing reel,
        climbing rope, carabiner, sleeping bag, camping stove, cooler, picnic basket, picnic table, campfire, lighter,
        match, whistle, scoreboard, finish line, hurdle, starting block, saddle, horseshoe, parachute, punch bag
    """,
    "music": """
        guitar, electric guitar, bass guitar, acoustic guitar, ukulele, banjo, mandolin, violin, viola, cello,
        double bass, harp, piano, grand piano, piano keyboard, organ, synthesizer, accordion, harmonica, flute,
        recorder, clarinet, oboe, bassoon, saxophone, trumpet, trombone, french horn, tuba, bugle, bagpipes, snare drum,
        bass drum, drum kit, drumstick, cymbal, tambourine, triangle, xylophone, maracas, bongo, gong, bell, hand bell,
        music stand, sheet music, music box, guitar case, violin bow, gramophone, guitar pick, piano bench
    """,
    "animals": """
        dog, puppy, cat, kitten, rabbit, hamster, guinea pig, mouse, rat, squirrel, chipmunk, hedgehog, mole, bat,
        fox, wolf, bear, polar bear, panda, koala, raccoon, skunk, badger, otter, beaver, weasel, deer, stag, moose,
        reindeer, elk, antelope, gazelle, bison, buffalo, cow, bull, calf, ox, sheep, lamb, goat, pig, piglet, horse,
        pony, foal, donkey, mule, zebra, giraffe, elephant, rhinoceros, hippopotamus, camel, llama, alpaca, kangaroo,
        monkey, ape, gorilla, chimpanzee, lion, tiger, leopard, cheetah, jaguar, lynx, hyena, seal, sea lion, walrus,
        whale, dolphin, shark, fish, goldfish, salmon, tuna, eel, ray, seahorse, octopus, squid, jellyfish, starfish,
        snail, slug, clam, oyster, shell, seashell, turtle, tortoise, lizard, gecko, iguana, chameleon, snake,
        crocodile, alligator, frog, toad, salamander, newt, bird, chicken, rooster, hen, chick, duck, duckling, goose,
        swan, turkey, peacock, pigeon, dove, sparrow, robin, crow, raven, magpie, seagull, owl, eagle, hawk, falcon,
        vulture, parrot, parakeet, canary, penguin, ostrich, flamingo, stork, heron, pelican, woodpecker, hummingbird,
        insect, ant, bee, wasp, butterfly, moth, caterpillar, fly, mosquito, beetle, ladybug, grasshopper, cricket,
        dragonfly, spider, spider web, scorpion, worm, birdcage, bird house, nest, feather, fish tank, dog house,
        dog bed, cat tree, leash, collar, pet bowl, beehive, anthill, paw, horn, antler, fur
    """,
    "people": """
        person, man, woman, child, boy, girl, baby, toddler, teenager, adult, couple, crowd, pedestrian, cyclist,
        motorcyclist, driver, passenger, police officer, firefighter, soldier, construction worker, road worker,
        street vendor, waiter, chef, doctor, nurse, teacher, student, musician, athlete, skateboarder, jogger, tourist,
        skater, farmer, fisherman, face, head, hair, beard, moustache, eye, nose, mouth, ear, hand, finger, arm, leg,
        foot, shoulder, back, mannequin, skeleton, skull, wooden mannequin, bust, angel, ghost, clown, knight, mermaid
    """,
    "plants": """
        tree, oak tree, pine tree, palm tree, birch tree, willow, fir tree, maple tree, fruit tree, dead tree,
        tree trunk, tree stump, log, branch, twig, stick, root, bark, leaf, foliage, bush, shrub, hedge, ivy, vine,
        fern, moss, grass, lawn, meadow, weed, reed, bamboo, cactus, succulent, aloe, houseplant, potted plant, bonsai,
        flower, rose, tulip, daisy, sunflower, lily, orchid, daffodil, carnation, dandelion, lavender, poppy, violet,
        bouquet, flower bed, flower box, petal, stem, seed, acorn, pine cone, berry, chestnut, wheat, hay, haystack,
        straw, crop, field, orchard, vineyard, vegetable garden, garden, park, forest, woods, jungle, compost heap,
        hanging basket, trellis, garden gnome, vegetation, undergrowth, clover, thistle, water lily, seaweed, toadstool
    """,
    "landscape": """
        sky, cloud, sun, moon, star, rainbow, lightning, fog, rain, snow, ice, icicle, frost, hill, mountain, cliff,
        rock, stone, boulder, pebble, gravel, sand, soil, dirt, mud, dust, clay, valley, canyon, cave, volcano, desert,
        dune, beach, coast, island, ocean, sea, wave, lake, pond, pool, river, stream, waterfall, swamp, puddle, bank,
        shore, path, trail, dirt road, terrain, ground, horizon, glacier, geyser, ditch, slope, crater, driftwood
    """,
    "street": """
        road, street, highway, lane, intersection, roundabout, crosswalk, zebra crossing, bicycle lane, bus lane,
        parking lot, parking space, driveway, alley, sidewalk, pavement, curb, traffic island, traffic median, ramp,
        speed bump, pothole, manhole, manhole cover, storm drain, road marking, lane marking, stop line, arrow marking,
        traffic light, traffic signal, pedestrian signal, traffic sign, stop sign, speed limit sign, street sign,
        direction sign, warning sign, billboard, advertisement, shop sign, neon sign, street light, lamp post, pole,
        utility pole, power line, pylon, transformer box, electrical box, fire hydrant, mailbox, letter box, trash bin,
        dumpster, garbage bag, phone booth, bus stop, bus shelter, park bench, bollard, barrier, road barrier,
        barricade, concrete barrier, jersey barrier, crash barrier, guardrail, fence, wooden fence, chain-link fence,
        wire fence, railing, hand railing, traffic cone, construction barrel, construction fence, construction sign,
        excavation, toll booth, boom gate, bicycle rack, bicycle stand, charging station, fuel pump, planter box,
        tree grate, cobblestone, paving stone, asphalt, noise barrier, retaining wall, embankment, underpass, railway,
        rail track, level crossing, tram track, platform, ticket barrier, street vendor stall, food stall, parasol,
        sandwich board, newspaper stand, public toilet, drinking fountain, flagpole, street clock, hedge row, turf,
        grassland, debris, """,
    "vehicles": """
        vehicle, car, sedan, hatchback, station wagon, convertible, sports car, race car, limousine, taxi, police car,
        suv, jeep, minivan, van, delivery van, pickup truck, truck, semi-trailer truck, tow truck, dump truck,
        garbage truck, tank truck, box truck, flatbed truck, fire truck, ambulance, concrete mixer, trailer,
        semi trailer, caravan, camper van, cargo container, shipping container, bus, double-decker bus, school bus,
        coach, minibus, trolleybus, tram, train, locomotive, freight train, train car, subway train, bicycle,
        mountain bike, electric bicycle, cargo bike, motorcycle, moped, motor scooter, kick scooter, segway, rickshaw,
        quad bike, golf cart, go-kart, snowmobile, tractor, combine harvester, plough, bulldozer, excavator, backhoe,
        road roller, tank, armoured car, boat, motorboat, speedboat, yacht, ferry, cruise ship, cargo ship, barge,
        submarine, raft, lifeboat, gondola, airplane, jet, propeller plane, glider, helicopter, hot air balloon,
        airship, space shuttle, satellite, cable car, horse carriage, wagon, hand cart, tire, wheel, steering wheel,
        windshield, wiper, headlight, tail light, bumper, license plate, car door, car seat, child seat, side mirror,
        hood ornament, exhaust pipe, roof rack, truck bed, bicycle basket, bicycle wheel, pedal, handlebar,
        bicycle seat
    """,
    "materials": """
        box, container, bag, sack, case, tube, stack of books, pile of wood, pile of clothes, firewood, wood, metal,
        steel bar, sheet metal, plastic, rubber, leather, wool, cotton, glass pane, mirror glass, ceramic, porcelain,
        marble slab, granite, wallpaper, cloth, net bag, foam, cardboard, wooden box, wooden board, wicker basket,
        rubbish, litter, junk, bottle crate, water tank, aquarium, terrarium, cage, trap, tomb, gravestone, cross,
        altar, candelabra, incense burner, cauldron, urn, pot lid, pedestal, plinth, stage, podium, throne,
        kerosene lamp,
        anchor, buoy, ship wheel, treasure chest, sword, shield, spear, arrow, bow, gun, pistol, rifle, cannon,
        knife rack
    """,
}
"""Nouns by domain, separated by commas."""


def _read() -> tuple[str, ...]:
    words = (" ".join(word.split()) for text in DOMAINS.values() for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


NOUNS: tuple[str, ...] = _read()
"""Every noun once."""
